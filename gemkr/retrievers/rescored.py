"""The clues of an earlier run under another scorer: what ranking alone is worth, without decoding again.

Knows records and scorers; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gemkr.errors import DataError
from gemkr.retrievers.generative.scoring import Scorer
from gemkr.types import Clue, Query, Ranking


class RescoredRetriever:
    """Ranks documents by clues that are known already: `clues[query_id]`, spans of the scorer's own index."""

    def __init__(self, clues: Mapping[str, Sequence[Clue]], scorer: Scorer) -> None:
        self.clues = clues
        self.scorer = scorer

    def retrieve(self, queries: Iterable[Query], k: int) -> Iterator[Ranking]:
        """One ranking per query, in order; DataError for a query that the earlier run did not answer."""
        for query in queries:
            if query.query_id not in self.clues:
                raise DataError(
                    f"the earlier run holds no clues of query {query.query_id!r}; let it finish, or start it anew with --restart"
                )
            clues = self.clues[query.query_id]
            yield Ranking(query.query_id, self.scorer.rank(query, clues, k), tuple(clues))
