"""Client: asks a service, and changes its collection; one method for each route. On the standard library."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from gemkr.client.messages import Event, Found, Question, ServiceError, bytes_of, document_of, found_of
from gemkr.types import Document

CUT_SHORT = "the service ended the stream before its answer; ask again"


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
        return found_of(self._call("POST", "/v1/retrieve", Question(question, picture, **more).body()))

    def ask_many(self, questions: Sequence[Question]) -> list[Found]:
        """The answers to several questions, in order, retrieved together as far as they can be."""
        body = {"queries": [question.body() for question in questions]}
        return [found_of(one) for one in self._call("POST", "/v1/retrieve", body)["rankings"]]

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
                        yield Event("ranking", found=found_of(data))
                        return
                    clues = ((c["text"], c["log_prob"], c["finished"]) for c in data["clues"])
                    yield Event("clues", tuple(clues))
            raise ServiceError(0, CUT_SHORT)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:  # half a line, or half a character
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
        return self._call("POST", "/v1/pictures", bytes_of(picture))

    def document(self, doc_id: str) -> Document:
        """A document; ServiceError with status 404 for one that is not there."""
        return document_of(self._call("GET", f"/v1/documents/{quote(doc_id)}"))

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
        except (ServiceError, LookupError, TypeError):  # nobody answers, or another service does
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
