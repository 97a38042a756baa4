"""Guesses of answers, and passages for them: the parts of the simple baselines.

Knows nothing of how answers are guessed; a guesser may be the nearest training questions or a classifier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np

from benchmarks.okvqa.guessers import GUESSERS, training_queries
from benchmarks.okvqa.phrase_documents import PhraseDocuments
from gemkr.config.ranges import NotNegative, Positive, Share
from gemkr.config.section import Section, section_files
from gemkr.data.documents import allowed_documents
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import Allowed
from gemkr.scorers.bm25 import BM25
from gemkr.types import Hit, Query, Ranking

if TYPE_CHECKING:
    from gemkr.sources import Sources

CHOOSERS = ("one_per_answer", "coverage")

Guesses = Sequence[tuple[str, float]]
"""(answer, weight), the largest weight first."""


class AnswerGuesser(Protocol):
    """Anything that guesses answers to a query without reading a document."""

    def guess(self, query: Query) -> Guesses: ...


class PassageChooser(Protocol):
    """From guesses to documents: (document, score) pairs, best first, each document once."""

    def choose(self, guesses: Guesses, scores: np.ndarray, k: int) -> list[tuple[int, float]]: ...


class OnePerAnswer:
    """For each answer in turn the passage that BM25 ranks first among those that hold it and are not taken yet.

    Answers without a passage left are skipped, so that k passages stand for k answers where so many are
    guessed. The score of a hit is its answer's weight.
    """

    def __init__(self, holders: PhraseDocuments) -> None:
        self.holders = holders

    def choose(self, guesses: Guesses, scores: np.ndarray, k: int) -> list[tuple[int, float]]:
        """`scores` float32[N] are BM25's for all documents, which are not changed; O(holders) for each answer."""
        scores = scores.copy()
        chosen: list[tuple[int, float]] = []
        for answer, weight in guesses:
            if len(chosen) == k:
                break
            docs = self.holders[answer]
            best = int(docs[np.argmax(scores[docs])]) if len(docs) else 0
            if len(docs) and scores[best] > -np.inf:
                chosen.append((best, weight))
                scores[best] = -np.inf
        return chosen


class GreedyCoverage:
    """The passage that holds the most weight of answers not covered yet; then its answers keep `discount` of theirs.

    Weights are scaled to sum to 1 over the best `answers` guesses; BM25, scaled to at most `second_weight`, joins
    them, so that it decides among passages with the same answers (greedy coverage, for words in place of clues)
    and fills up the ranking with passages that hold none of them. Where no weight is above 0, BM25 alone decides.
    """

    def __init__(
        self, holders: PhraseDocuments, *, answers: int, discount: float = 0.3, second_weight: float = 0.1
    ) -> None:
        self.holders = holders
        self.answers = answers
        self.discount = discount
        self.second_weight = second_weight

    def choose(self, guesses: Guesses, scores: np.ndarray, k: int) -> list[tuple[int, float]]:
        """`scores` float32[N] are BM25's for all documents; O((answers + k) x N).

        Nothing is chosen where no document holds a guess.
        """
        guesses = [(answer, weight) for answer, weight in guesses if len(self.holders[answer])][
            : self.answers
        ]
        total = sum(weight for _, weight in guesses) or 1.0
        left = [weight / total for _, weight in guesses]
        gain = scores * np.float32(self.second_weight / max(float(scores.max()), 1e-9))
        held = [self.holders[answer] for answer, _ in guesses]
        for docs, weight in zip(held, left):
            gain[docs] += np.float32(weight)
        chosen: list[tuple[int, float]] = []
        while held and len(chosen) < min(k, len(scores)):
            best = int(np.argmax(gain))
            chosen.append((best, float(gain[best])))
            gain[best] = -np.inf
            for number, docs in enumerate(held):
                at = int(np.searchsorted(docs, best))
                if at < len(docs) and docs[at] == best:
                    gain[docs] -= np.float32(left[number] * (1 - self.discount))
                    left[number] *= self.discount
        return chosen


class AnswerRetriever:
    """Guesses answers, then chooses passages that hold them; BM25 of question and caption ranks passages.

    A query gets fewer than k hits where the chooser chooses fewer.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A guesser of answers, and the choice of passages: one_per_answer, or coverage of the best `answers`, which discounts by
        `discount` and gives BM25 at most `second_weight`."""

        guesser: Annotated[Section, GUESSERS]
        chooser: str = "coverage"
        answers: Positive = 30
        discount: Share = 0.3
        second_weight: NotNegative = 0.1

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> AnswerRetriever:
        """Over the corpus of the configuration; ConfigError for an unknown chooser, and what the guesser raises."""
        if config.chooser not in CHOOSERS:
            raise ConfigError(f"the chooser {config.chooser!r} is unknown; known are {', '.join(CHOOSERS)}")
        guesser = config.guesser.build(sources)
        holders = _holders(config.guesser.config.train, sources)
        if config.chooser == "coverage":
            chooser: PassageChooser = GreedyCoverage(
                holders,
                answers=config.answers,
                discount=config.discount,
                second_weight=config.second_weight,
            )
        else:
            chooser = OnePerAnswer(holders)
        return cls(guesser, chooser, sources.bm25, sources.documents.doc_ids)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the guesser reads."""
        return section_files(config.guesser)

    def __init__(
        self, guesser: AnswerGuesser, chooser: PassageChooser, bm25: BM25, doc_ids: Sequence[str]
    ) -> None:
        """`doc_ids[i]` names document i of `bm25`; raises DataError when their numbers differ."""
        if len(bm25) != len(doc_ids):
            raise DataError(
                f"BM25 holds {len(bm25)} documents and there are {len(doc_ids)} ids; build it from the same corpus"
            )
        self.guesser, self.chooser, self.bm25, self.doc_ids = guesser, chooser, bm25, doc_ids

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order; of all the documents it chooses, the allowed ones."""
        mask = None if allowed is None else allowed_documents(self.doc_ids, allowed)
        for query in queries:
            scores = self.bm25.score_all(self.bm25.query_text(query))
            chosen = self.chooser.choose(
                self.guesser.guess(query), scores, k if mask is None else len(self.doc_ids)
            )
            if mask is not None:
                chosen = [(doc, score) for doc, score in chosen if mask[doc]][:k]
            yield Ranking(query.query_id, tuple(Hit(self.doc_ids[doc], score) for doc, score in chosen))


class ExpandedQueryRetriever:
    """BM25 with one query: question, caption, and the best guesses, `times` times each."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A guesser of answers whose best `answers` join the query, `times` times each."""

        guesser: Annotated[Section, GUESSERS]
        answers: Positive = 5
        times: Positive = 2

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> ExpandedQueryRetriever:
        """Over the corpus of the configuration."""
        guesser, doc_ids = config.guesser.build(sources), sources.documents.doc_ids
        return cls(guesser, sources.bm25, doc_ids, answers=config.answers, times=config.times)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the guesser reads."""
        return section_files(config.guesser)

    def __init__(
        self, guesser: AnswerGuesser, bm25: BM25, doc_ids: Sequence[str], *, answers: int = 5, times: int = 2
    ) -> None:
        self.guesser, self.bm25, self.doc_ids = guesser, bm25, doc_ids
        self.answers, self.times = answers, times

    def text_of(self, query: Query) -> str:
        """What is searched for."""
        best = [answer for answer, _ in self.guesser.guess(query)[: self.answers]]
        return " ".join([self.bm25.query_text(query), *(best * self.times)])

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of at most k hits per query, in order."""
        mask = None if allowed is None else allowed_documents(self.doc_ids, allowed)
        for query in queries:
            docs, scores = self.bm25.top(self.text_of(query), k, mask)
            pairs = zip(docs.tolist(), scores.tolist(), strict=True)
            yield Ranking(query.query_id, tuple(Hit(self.doc_ids[doc], score) for doc, score in pairs))


def _holders(train: str, sources: Sources) -> PhraseDocuments:
    """The passages of every answer of the training queries, found once."""

    def find() -> PhraseDocuments:
        queries = training_queries(train, sources)
        return PhraseDocuments(
            sources.documents, dict.fromkeys(a for query in queries for a in query.answers)
        )

    return sources.once(("holders", train), find)
