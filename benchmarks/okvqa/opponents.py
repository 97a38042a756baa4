"""The simple opponents of a generative retriever, built from an evaluation's configuration.

They learn from the answers of training queries and from nothing else; a generative retriever that does not beat them
has learned nothing. Each is a guesser of answers (nearest questions, a classifier) and a way to passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.okvqa.answers import (
    AnswerRetriever,
    ExpandedQueryRetriever,
    GreedyCoverage,
    OnePerAnswer,
    PassageChooser,
)
from benchmarks.okvqa.config import OpponentsConfig
from benchmarks.okvqa.holders import Holders
from benchmarks.okvqa.nearest import NearestQuestions
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.retrievers.fusion import FusionRetriever
from gemkr.types import Query

if TYPE_CHECKING:
    from benchmarks.okvqa.classifier import AnswerClassifier
    from benchmarks.okvqa.encoder_classifier import EncoderClassifier
    from gemkr.sources import Sources

WEIGHTS_FILE = "answer_classifier.safetensors"
"""In the output folder."""


class OpponentParts:
    """What opponents learn, each part made when first asked for and only once."""

    def __init__(self, sources: Sources) -> None:
        """Raises ConfigError when the configuration has no section `opponents`."""
        self._sources = sources
        self.settings = require_settings(sources.config)

    @cached_property
    def train(self) -> list[Query]:
        """The training queries; DataError when one of them is also to be answered."""
        train = list(read_queries(self.settings.train))
        require_apart(train, self._sources.queries, self.settings.train)
        return train

    @cached_property
    def holders(self) -> Holders:
        """The passages of every training answer."""
        answers = dict.fromkeys(answer for query in self.train for answer in query.answers)
        return Holders(self._sources.documents, answers)

    @cached_property
    def nearest(self) -> NearestQuestions:
        return NearestQuestions(self.train, neighbours=self.settings.neighbours)

    @cached_property
    def classifier(self) -> AnswerClassifier:
        """The classifier, its weights from the output folder where they are of these queries and settings."""
        from benchmarks.okvqa.classifier import answer_classifier

        cache = Path(self._sources.config.output) / WEIGHTS_FILE
        return answer_classifier(self.train, self.settings.classifier, cache)

    @cached_property
    def encoder_classifier(self) -> EncoderClassifier:
        """The same over a text encoder; ConfigError when no encoder is named."""
        from benchmarks.okvqa.encoder_classifier import encoder_classifier

        if self.settings.encoder is None:
            raise ConfigError(
                "encoder_classifier_coverage needs a text encoder; set opponents.encoder.encoder.folder to a Hugging Face folder"
            )
        return encoder_classifier(self.train, self.settings.encoder, Path(self._sources.config.output))


def require_settings(config: EvalConfig) -> OpponentsConfig:
    """The section `opponents`; ConfigError when there is none."""
    if config.opponents is None:
        raise ConfigError(
            "the simple opponents learn from training queries and the section 'opponents' is missing; "
            "set opponents.train to a file of queries with answers"
        )
    return config.opponents


def require_apart(
    train: Sequence[Query], asked: Sequence[Query], path: str, setting: str = "opponents.train"
) -> None:
    """Raise DataError when a query that is to be answered stands in the training file, with its answers."""
    asked_ids = {query.query_id for query in asked}
    both = [query.query_id for query in train if query.query_id in asked_ids]
    if both:
        raise DataError(
            f"{len(both)} of the {len(asked_ids)} queries, such as {both[0]!r}, stand in the training file {path}; "
            f"set {setting} to a file without them"
        )


def nearest_questions(config: EvalConfig, sources: Sources) -> AnswerRetriever:
    """The answers of the nearest training questions, a passage for each."""
    parts = sources.opponents
    return _answers(sources, parts.nearest, OnePerAnswer(parts.holders))


def nearest_questions_query(config: EvalConfig, sources: Sources) -> ExpandedQueryRetriever:
    """BM25 of question, caption and the best of those answers."""
    return ExpandedQueryRetriever(sources.opponents.nearest, sources.bm25, sources.documents.doc_ids)


def answer_classifier(config: EvalConfig, sources: Sources) -> AnswerRetriever:
    """The answers that the classifier guesses, a passage for each."""
    parts = sources.opponents
    return _answers(sources, parts.classifier, OnePerAnswer(parts.holders))


def answer_classifier_coverage(config: EvalConfig, sources: Sources) -> AnswerRetriever:
    """The same answers, passages by greedy coverage."""
    return _answers(sources, sources.opponents.classifier, _coverage(sources.opponents))


def encoder_classifier_coverage(config: EvalConfig, sources: Sources) -> AnswerRetriever:
    """The answers that a classifier over a text encoder guesses, passages by greedy coverage."""
    return _answers(sources, sources.opponents.encoder_classifier, _coverage(sources.opponents))


def fusion(config: EvalConfig, sources: Sources) -> FusionRetriever:
    """Reciprocal rank fusion of the retrievers that `opponents.fused` names: any but itself."""
    from gemkr.retrievers import build_retriever, require_known

    settings = require_settings(config)
    for name in settings.fused:
        require_known(name)
    if "fusion" in settings.fused:
        raise ConfigError("opponents.fused names 'fusion' itself; name other retrievers")
    retrievers = [build_retriever(config, sources, name=name) for name in settings.fused]
    return FusionRetriever(retrievers, depth=settings.depth, k=settings.rrf_k)


def _coverage(parts: OpponentParts) -> GreedyCoverage:
    settings = parts.settings
    return GreedyCoverage(
        parts.holders,
        answers=settings.answers,
        discount=settings.discount,
        second_weight=settings.second_weight,
    )


def _answers(sources: Sources, guesser, chooser: PassageChooser) -> AnswerRetriever:
    return AnswerRetriever(guesser, chooser, sources.bm25, sources.documents.doc_ids)
