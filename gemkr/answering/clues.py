"""Answers without a reading model: the clue itself, where clues are answers. The passage that holds it is its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gemkr.answering.choice import choose, rank_weights
from gemkr.config.ranges import NotNegative
from gemkr.data.qrels import AnswerMatcher
from gemkr.errors import ConfigError, DataError
from gemkr.types import Answer, Hit, Query, ReadPassage

if TYPE_CHECKING:
    from gemkr.sources import Sources

NOTHING = {"log_prob": -100.0, "margin": 0.0, "agreement": 0.0, "evidence": 0.0, "held": 0.0, "words": 0.0}
"""The features of saying nothing, where a query has no passage."""


class ClueReader:
    """Answers with the clue that is likeliest over a query's passages: the probability of a clue is added up, weighed by rank, over
    those that hold it. Costs no model; needs hits with evidence, as a generative retriever of short clues gives them."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The passage of rank r counts r ** -`rank_decay`."""

        rank_decay: NotNegative = 1.0

    def __init__(self, rank_decay: float = 1.0) -> None:
        self.rank_decay = rank_decay

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> ClueReader:
        """Nothing is loaded."""
        return cls(config.rank_decay)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """None."""
        return {}

    @staticmethod
    def require_mode(config: Config, passages: bool) -> None:
        """ConfigError where there are no passages to have clues."""
        if not passages:
            raise ConfigError(
                "the reader clues answers with a passage's clue and has none under closed_book; take closed_book out of answer.of"
            )

    def answer(self, readings: Iterable[tuple[Query, Sequence[Hit]]]) -> Iterator[Answer]:
        """One answer for each query and its hits, best first, which carry their documents. One without passages is answered by an
        empty text; DataError for passages without evidence."""
        for query, hits in readings:
            if not hits:
                yield Answer(query.query_id, "", None, NOTHING["log_prob"], features=NOTHING)
            elif not any(hit.evidence for hit in hits):
                raise DataError(
                    f"the passages of the query {query.query_id!r} have no clues, which the reader clues answers with; name a "
                    "generative retriever in answer.of, or a reader of kind llm"
                )
            else:
                yield self._answer(query, hits)

    def _answer(self, query: Query, hits: Sequence[Hit]) -> Answer:
        weights = rank_weights(len(hits), self.rank_decay)
        found = [_likeliest(hit) for hit in hits]
        texts = list(dict.fromkeys(text for clues in found for text in clues))
        log_probs = np.array([[clues.get(text, -np.inf) for text in texts] for clues in found])

        def holds(text: str) -> np.ndarray:
            matcher = AnswerMatcher([text], "word")
            return np.array([bool(matcher) and matcher.matches(hit.document.contents) for hit in hits])

        choice = choose(texts, log_probs, weights, holds)
        passages = tuple(
            ReadPassage(hit.doc_id, float(weight), float(share))
            for hit, weight, share in zip(hits, weights, choice.shares, strict=True)
        )
        best = max(passages, key=lambda passage: passage.share)
        return Answer(
            query.query_id,
            choice.text,
            best.doc_id,
            choice.log_prob,
            passages,
            choice.others,
            choice.features,
        )


def _likeliest(hit: Hit) -> dict[str, float]:
    """The texts of a passage's clues, which may be one text in several spellings of white space, with the likeliest's log-probability."""
    found: dict[str, float] = {}
    for clue in hit.evidence:
        text = clue.text.strip()
        found[text] = max(found.get(text, -np.inf), clue.log_prob)
    return found
