"""The ensemble without its models: an answer expert's guesses as clues, under the same index and the same ranking.

What the models add to the expert is the difference. Knows guesses, an index and a scorer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from benchmarks.okvqa.answers import AnswerGuesser
from gemkr.fm_index import FMIndex, Span
from gemkr.retrievers.generative.scoring import Scorer
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Clue, Query, Ranking


class ExpertAloneRetriever:
    """Ranks documents for queries by the guesses of an answer expert that stand in the corpus."""

    def __init__(
        self, guesser: AnswerGuesser, tokenizer: Tokenizer, index: FMIndex, scorer: Scorer, *, guesses: int
    ) -> None:
        """The best `guesses` that the index holds count; the scorer must be over the same index."""
        self.guesser, self.tokenizer, self.index, self.scorer = guesser, tokenizer, index, scorer
        self._guesses = guesses

    def retrieve(self, queries: Iterable[Query], k: int) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order, with the guesses as its clues."""
        for query in queries:
            clues = self._clues(query)
            yield Ranking(query.query_id, self.scorer.rank(query, clues, k), tuple(clues))

    def _clues(self, query: Query) -> list[Clue]:
        """The guesses by probability, those that are spelled alike as one."""
        found: dict[tuple[int, ...], tuple[str, float, Span]] = {}
        for answer, p in self.guesser.guess(query):
            tokens = tuple(self.tokenizer.encode(answer))
            if tokens in found:
                text, before, span = found[tokens]
                found[tokens] = (text, before + p, span)
            elif p > 0 and tokens and len(found) < self._guesses:
                span = self.index.search(tokens)
                if span:
                    found[tokens] = (answer, p, span)
        clues = [
            Clue(tokens, text, math.log(p), math.log(p), span) for tokens, (text, p, span) in found.items()
        ]
        return sorted(clues, key=lambda clue: -clue.log_prob)
