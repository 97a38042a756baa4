"""The ensemble without its models: an answer expert's guesses as clues, under the same index and the same ranking.

What the models add to the expert is the difference. Knows guesses, an index and a scorer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.okvqa.answers import AnswerGuesser
from gemkr.errors import ConfigError
from gemkr.fm_index import FMIndex, Span
from gemkr.interfaces import Allowed
from gemkr.retrievers.generative.retriever import clue_documents
from gemkr.retrievers.generative.scoring import ClueScorer, scorer_of
from gemkr.text.index_tokenizer import tokenizer_of
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Clue, Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources


class ExpertAloneRetriever:
    """Ranks documents for queries by the guesses of an answer expert that stand in the corpus."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The expert of the retriever `of`, without the models."""

        of: str

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> ExpertAloneRetriever:
        """Under the index and the ranking of the retriever `of`; ConfigError where it has no expert."""
        settings = sources.section(config.of).config
        expert = getattr(settings, "answer_expert", None)
        if expert is None:
            raise ConfigError(
                f"the retriever {config.of!r} has no answer expert; add answer_expert to it, or leave this retriever out"
            )
        index = sources.index(settings.index)
        tokenizer = tokenizer_of(index, sources.tokenizer(settings.model))
        scorer = scorer_of(clue_documents(settings, settings.scoring, sources))
        return cls(expert.guesser.build(sources), tokenizer, index, scorer, guesses=expert.guesses)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Nothing besides what the retriever `of` reads."""
        return {}

    def __init__(
        self,
        guesser: AnswerGuesser,
        tokenizer: Tokenizer,
        index: FMIndex,
        scorer: ClueScorer,
        *,
        guesses: int,
    ) -> None:
        """The best `guesses` that the index holds count; the scorer must be over the same index."""
        self.guesser, self.tokenizer, self.index, self.scorer = guesser, tokenizer, index, scorer
        self._guesses = guesses

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order, with the guesses as its clues."""
        if allowed is not None:
            raise ConfigError("expert_alone ranks all documents; leave allowed out")
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
