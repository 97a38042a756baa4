"""What answers hold, as OpenAPI shows it. pydantic only."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel


class Evidence(BaseModel):
    text: str
    log_prob: float
    start: int
    stop: int


class Heat(BaseModel):
    """A part of the question's picture (shares of its sides), how well it matches a passage, from the least (0) to the best (1), and
    with which words."""

    box: tuple[float, float, float, float]
    weight: float
    words: str


class Hit(BaseModel):
    """A passage. `marks` are half-open ranges of characters (code points) of `text` where its clues stand, `matches` ranges that
    vectors of the question found, with weights up to 1."""

    doc_id: str
    score: float
    title: str = ""
    text: str = ""
    image: str | None = None
    evidence: list[Evidence] = []
    marks: list[tuple[int, int]] = []
    matches: list[tuple[int, int, float]] = []
    heat: list[Heat] = []


class Clue(BaseModel):
    text: str
    tokens: list[int]
    log_prob: float
    score: float
    occurrences: int


class RankingMessage(BaseModel):
    """The passages for one question, best first; `together` questions were retrieved in one batch. `searched` is the share of the
    corpus that was looked at, less than 1 where shards are lost."""

    retriever: str
    hits: list[Hit]
    clues: list[Clue] = []
    seconds: dict[str, float]
    together: int
    searched: float = 1.0


class Rankings(BaseModel):
    """One ranking per query, in order."""

    rankings: list[RankingMessage]


class DocumentMessage(BaseModel):
    doc_id: str
    title: str
    text: str
    image: str | None


class RetrieverMessage(BaseModel):
    name: str
    kind: str
    pictures: bool
    clues: bool
    matches: bool


class Continuation(BaseModel):
    token: int
    text: str
    count: int
    documents: int | None


class Following(BaseModel):
    """What may follow a text. `documents` is null where they are too many to count; `may_end`: a clue may end here."""

    tokens: list[int]
    text: str
    count: int
    documents: int | None
    doc_ids: list[str]
    may_end: bool
    continuations: int
    next: list[Continuation]


class FoundBox(BaseModel):
    box: tuple[float, float, float, float]
    label: str
    score: float


class PictureMessage(BaseModel):
    """A picture that questions may name by `id` for a while, and the boxes found in it."""

    id: str
    width: int
    height: int
    boxes: list[FoundBox]


class Problem(BaseModel):
    """RFC 9457: `detail` is one sentence that says what is wrong and what to do."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str


class Written(BaseModel):
    """What became of the collection."""

    documents: int
    generation: int


def finite(value: Any) -> Any:
    """A JSON value with null in place of numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list) else value
