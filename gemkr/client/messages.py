"""What a client asks and what it is answered: the data classes, from and to the JSON of the service."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gemkr.errors import GemkrError
from gemkr.types import Document, Evidence

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of a picture's sides."""


class ServiceError(GemkrError):
    """What a service refused, in its own sentence, or a service that does not answer (`status` 0).

    `retry_after` is when to come again, in seconds, where the service said so.
    """

    def __init__(self, status: int, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True, slots=True)
class Question:
    """One question, as `POST /v1/retrieve` takes it. `picture`: an id that the service knows, a file, or the bytes of one."""

    question: str = ""
    picture: str | Path | bytes | None = None
    box: Box | None = None
    instruction: str | None = None
    caption: str | None = None
    retriever: str | None = None
    k: int = 5
    pool: str | None = None
    evidence: bool = True
    clues: bool = True
    matches: bool = False

    def body(self) -> dict[str, Any]:
        """The JSON values of the request. A `str` is an id, a `Path` a file; ServiceError for one that cannot be read."""
        names = (
            "question", "box", "instruction", "caption", "retriever", "k", "pool", "evidence", "clues", "matches",
        )  # fmt: skip
        found = {name: value for name in names if (value := getattr(self, name)) is not None}
        if isinstance(self.picture, str):
            return found | {"picture": self.picture}
        if self.picture is not None:
            found["picture_base64"] = base64.b64encode(bytes_of(self.picture)).decode()
        return found


@dataclass(frozen=True, slots=True)
class FoundHit:
    """A passage; `marks` are half-open ranges of characters of its text where its clues stand, `matches` (start, stop, weight) those
    that the question's vectors found, `heat` (box, weight, words) what the parts of its picture found."""

    document: Document
    score: float
    evidence: tuple[Evidence, ...] = ()
    marks: tuple[tuple[int, int], ...] = ()
    matches: tuple[tuple[int, int, float], ...] = ()
    heat: tuple[tuple[Box, float, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FoundClue:
    """A clue that the model wrote; log-probabilities are natural."""

    text: str
    tokens: tuple[int, ...]
    log_prob: float
    score: float
    occurrences: int


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a question: passages, best first. `seconds` are the stages of its time in the service; `searched` is the share
    of the corpus that was looked at, less than 1 where shards are lost."""

    retriever: str
    hits: tuple[FoundHit, ...]
    clues: tuple[FoundClue, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    together: int = 1
    searched: float = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """A step of a streamed answer: clues as they stand (text, log-probability, finished), or at last the answer itself."""

    kind: Literal["clues", "ranking"]
    clues: tuple[tuple[str, float, bool], ...] = ()
    found: Found | None = None


def bytes_of(picture: Path | str | bytes) -> bytes:
    """Of a picture, or a file of one; ServiceError for a file that cannot be read."""
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise ServiceError(
            0, f"the picture {picture} cannot be read: {error.strerror}; give another file"
        ) from error


def document_of(shown: dict[str, Any]) -> Document:
    """A document as the service shows it."""
    return Document(shown["doc_id"], shown.get("text", ""), shown.get("title", ""), shown.get("image"))


def found_of(shown: dict[str, Any]) -> Found:
    """A ranking as the service shows it."""
    hits = tuple(
        FoundHit(
            document_of(hit),
            hit["score"],
            tuple(Evidence(e["text"], e["log_prob"], e["start"], e["stop"]) for e in hit.get("evidence", ())),
            tuple((start, stop) for start, stop in hit.get("marks", ())),
            tuple((start, stop, weight) for start, stop, weight in hit.get("matches", ())),
            tuple((tuple(part["box"]), part["weight"], part["words"]) for part in hit.get("heat", ())),
        )
        for hit in shown["hits"]
    )
    clues = tuple(
        FoundClue(c["text"], tuple(c["tokens"]), c["log_prob"], c["score"], c["occurrences"])
        for c in shown.get("clues", ())
    )
    searched = shown.get("searched", 1.0)
    return Found(shown["retriever"], hits, clues, shown["seconds"], shown["together"], searched)
