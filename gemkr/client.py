"""A client of `gemkr serve` in one file, on the standard library: `Client("http://127.0.0.1:8000").ask("Where was this made?")`.

One connection per call; safe to use from several threads.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from gemkr.errors import GemkrError
from gemkr.types import Document, Evidence

CUT_SHORT = "the service ended the stream before its answer; ask again"
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
            found["picture_base64"] = base64.b64encode(_bytes_of(self.picture)).decode()
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


class Client:
    """Speaks to one service. `key` is needed for writing only; `timeout` (seconds) bounds every wait for the service."""

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, key: str | None = None, timeout: float = 120
    ) -> None:
        """ServiceError for what is no address or no key."""
        self._parts, self._key, self._timeout = _parts_of(url), key, timeout
        if key is not None and not (key.isprintable() and max(key, default="") <= "\xff"):
            raise ServiceError(
                0, "the key holds a character that no header carries; use one of printable ASCII"
            )

    def ask(self, question: str = "", picture: str | Path | bytes | None = None, **more: Any) -> Found:
        """The passages for one question; `more` are further fields of `Question`. ServiceError where there is no answer."""
        return _found(self._call("POST", "/v1/retrieve", Question(question, picture, **more).body()))

    def ask_many(self, questions: Sequence[Question]) -> list[Found]:
        """The answers to several questions, in order, retrieved together as far as they can be."""
        body = {"queries": [question.body() for question in questions]}
        return [_found(one) for one in self._call("POST", "/v1/retrieve", body)["rankings"]]

    def stream(self, question: Question) -> Iterator[Event]:
        """The clues as they grow, then the answer. Leaving the loop early stops the search."""
        connection, answer = self._open("POST", "/v1/retrieve/stream", question.body())
        try:
            kind = ""
            for raw in answer:
                line = raw.decode("utf-8").rstrip("\n")
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                    if kind == "problem":
                        raise ServiceError(data["status"], data["detail"])
                    if kind == "ranking":
                        yield Event("ranking", found=_found(data))
                        return
                    clues = ((c["text"], c["log_prob"], c["finished"]) for c in data["clues"])
                    yield Event("clues", tuple(clues))
            raise ServiceError(0, CUT_SHORT)
        except json.JSONDecodeError as error:  # half a line
            raise ServiceError(0, CUT_SHORT) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            answer.close()
            connection.close()

    def retrievers(self) -> list[dict[str, Any]]:
        """Name, kind, `pictures`, `clues` and `matches` of each retriever, the default first."""
        return self._call("GET", "/v1/retrievers")

    def add_picture(self, picture: Path | bytes) -> dict[str, Any]:
        """Give a picture once for several questions: its `id`, `width`, `height` and `boxes`."""
        return self._call("POST", "/v1/pictures", _bytes_of(picture))

    def document(self, doc_id: str) -> Document:
        """A document; ServiceError with status 404 for one that is not there."""
        return _document(self._call("GET", f"/v1/documents/{quote(doc_id)}"))

    def add(self, documents: Sequence[Document]) -> dict[str, int]:
        """Add documents to the collection: how many it holds now, and its generation. `image` is the id of a picture of the service's
        own folder."""
        return self._write("POST", documents)

    def update(self, documents: Sequence[Document]) -> dict[str, int]:
        """Put documents in place of those with their ids; as `add`. ServiceError with status 404 for an id that is not there."""
        return self._write("PUT", documents)

    def _write(self, method: str, documents: Sequence[Document]) -> dict[str, int]:
        rows: list[dict[str, str]] = []
        for d in documents:
            image = {} if d.image is None else {"image": d.image}
            rows.append({"doc_id": d.doc_id, "text": d.text, "title": d.title} | image)
        return self._call(method, "/v1/documents", {"documents": rows})

    def delete(self, doc_ids: Sequence[str]) -> dict[str, int]:
        """Delete documents from the collection: how many it holds now, and its generation."""
        return self._call("DELETE", f"/v1/documents?{urlencode([('doc_id', one) for one in doc_ids])}")

    def following(self, prefix: str = "", *, starting: str = "", most: int = 40) -> dict[str, Any]:
        """What the corpus lets follow a text, with counts and the documents left."""
        asked = urlencode({"prefix": prefix, "starting": starting, "most": most})
        return self._call("GET", f"/v1/index/next?{asked}")

    def ready(self) -> bool:
        """Whether questions are answered now."""
        try:
            return self._call("GET", "/ready")["status"] == "ready"
        except ServiceError:
            return False

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        connection, answer = self._open(method, path, body)
        try:
            return json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._silent(error) from error
        finally:
            answer.close()
            connection.close()

    def _open(
        self, method: str, path: str, body: Any
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A connection with the head of an answer of status 200; ServiceError for any other."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        headers = {"Accept": "application/json, text/event-stream", "Content-Type": kind}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        secure = self._parts.scheme == "https"
        kind_of = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind_of(self._parts.hostname or "", self._parts.port, timeout=self._timeout)
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, raw, headers)
            answer = connection.getresponse()
            if answer.status == 200:
                return connection, answer
            error = _error(answer)
        except (OSError, http.client.HTTPException) as failure:
            connection.close()
            raise self._silent(failure) from failure
        connection.close()
        raise error

    def _silent(self, error: Exception) -> ServiceError:
        where = f"{self._parts.scheme}://{self._parts.netloc}"
        return ServiceError(
            0, f"the service at {where} does not answer ({error}); is `gemkr serve` running there?"
        )


def _parts_of(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # a port that is no number, half an IPv6 address
        pass
    raise ServiceError(0, f"{url!r} is no address of a service; write one such as http://127.0.0.1:8000")


def _error(answer: http.client.HTTPResponse) -> ServiceError:
    raw = answer.read(100_000)
    try:
        sentence = str(json.loads(raw)["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = f"the service answered with status {answer.status} {answer.reason}"
    after = answer.headers.get("Retry-After", "")
    return ServiceError(answer.status, sentence, float(after) if after.isdigit() else None)


def _bytes_of(picture: Path | str | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise ServiceError(
            0, f"the picture {picture} cannot be read: {error.strerror}; give another file"
        ) from error


def _document(shown: dict[str, Any]) -> Document:
    return Document(shown["doc_id"], shown.get("text", ""), shown.get("title", ""), shown.get("image"))


def _found(shown: dict[str, Any]) -> Found:
    hits = tuple(
        FoundHit(
            _document(hit),
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
