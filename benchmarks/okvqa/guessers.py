"""Guessers of answers: what a section `guesser` can name, and the training queries that they learn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gemkr.config.kinds import Role
from gemkr.data.queries import read_queries
from gemkr.errors import DataError
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

GUESSERS = Role(
    "answer guesser",
    "guess",
    {
        "nearest": "benchmarks.okvqa.nearest:NearestQuestions",
        "classifier": "benchmarks.okvqa.classifier:AnswerClassifier",
        "encoder_classifier": "benchmarks.okvqa.encoder_classifier:EncoderClassifier",
    },
)


def training_queries(path: str, sources: Sources) -> list[Query]:
    """The queries of a training file, read once; DataError when one of them is also to be evaluated."""
    train = sources.once(("training queries", path), lambda: list(read_queries(path)))
    require_held_out(train, sources.queries, path)
    return train


def require_held_out(train: Sequence[Query], evaluated: Sequence[Query], path: str) -> None:
    """Raise DataError when a query that is to be answered stands in the training file, with its answers."""
    ids = {query.query_id for query in evaluated}
    both = [query.query_id for query in train if query.query_id in ids]
    if both:
        raise DataError(
            f"{len(both)} of the {len(ids)} queries, such as {both[0]!r}, stand in the training file {path}; "
            "set train to a file without them"
        )
