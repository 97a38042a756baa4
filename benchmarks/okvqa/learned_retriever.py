"""The learned second scorer as a retriever of its own: what it finds in a whole corpus, without a clue.

Knows documents by number and id; the scoring itself is `benchmarks.okvqa.learned_scorer.LearnedScorer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from gemkr.errors import DataError
from gemkr.scorers.blend import SizedScorer
from gemkr.types import Hit, Query, Ranking


class LearnedScorerRetriever:
    """Ranks all documents of a corpus by a second scorer, one that learns or a blend with it."""

    def __init__(self, scorer: SizedScorer, doc_ids: Sequence[str]) -> None:
        """`doc_ids[i]` names document i of the scorer; raises DataError when their numbers differ."""
        if len(scorer) != len(doc_ids):
            raise DataError(
                f"the learned scorer knows {len(scorer)} documents and there are {len(doc_ids)} ids; build it from the same corpus"
            )
        self.scorer, self.doc_ids = scorer, doc_ids
        self._every = np.arange(len(doc_ids))

    def retrieve(self, queries: Iterable[Query], k: int) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order; ties go to the smaller document number."""
        for query in queries:
            scores = self.scorer.score(query, self._every)
            best = np.argsort(-scores, kind="stable")[:k]
            hits = zip(best.tolist(), scores[best].tolist(), strict=True)
            yield Ranking(query.query_id, tuple(Hit(self.doc_ids[doc], score) for doc, score in hits))
