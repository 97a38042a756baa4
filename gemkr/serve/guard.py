"""What every request passes first: its host, size and speed; and what every answer carries: security headers, a log line.

Plain ASGI, so that streams stay streams. Knows no routes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException

from gemkr.serve.refusals import BROKEN

logger = logging.getLogger("gemkr.serve.requests")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(self), microphone=(), geolocation=()"),
)
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class BodyError(HTTPException):
    """A body that is too large or too slow; of a kind that the framework passes on as it is. The rest of it is not read."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence, {"Connection": "close"})


def problem(status: int, detail: str) -> bytes:
    """The body of an error answer (RFC 9457)."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def allowed_hosts(host: str, hosts: Sequence[str]) -> tuple[str, ...]:
    """Names, in lower case, that requests may call the service by; () for any. Where it listens on the loopback only names of that,
    so that no page of the web can reach it under a name of its own (DNS rebinding)."""
    if hosts:
        return tuple(map(str.lower, hosts))
    loopback = host.lower() in ("localhost", "::1") or host.startswith("127.")
    return LOOPBACK if loopback else ()


class Guard:
    """Middleware around the application `app`; `observe(route, status, seconds)` is told of each request."""

    def __init__(
        self,
        app: Any,
        *,
        hosts: Sequence[str],
        most_bytes: int,
        body_seconds: float,
        observe: Callable[[str, int, float], None],
    ) -> None:
        self.app = app
        self._hosts, self._most_bytes, self._body_seconds = frozenset(hosts), most_bytes, body_seconds
        self._observe = observe

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        number = uuid.uuid4().hex[:12]

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(name.encode(), value.encode()) for name, value in HEADERS]
                message["headers"] = [*message.get("headers", ()), *own, (b"x-request-id", number.encode())]
            await send(message)

        try:
            refused = self._refused(scope)
            if refused is not None:
                await _answer(sent, *refused)
            else:
                try:
                    await self.app(scope, self._bounded(receive), sent)
                except BodyError as error:
                    if not status:
                        await _answer(sent, error.status_code, error.detail)
                except Exception:  # whatever else went wrong: the client gets a sentence, the log the rest
                    logger.exception("a request failed")
                    if not status:
                        await _answer(sent, 500, BROKEN)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            self._observe(route, status or 499, seconds)
            line = {"id": number, "method": scope["method"], "route": route, "status": status or 499}
            logger.info(json.dumps(line | {"ms": round(1000 * seconds, 1)}))

    def _refused(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        if self._hosts:
            host = headers.get(b"host", b"").decode("latin-1").lower()
            name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdigit() else host
            if name not in self._hosts:
                return 421, "the service is not called by this name; add it to serve.hosts"
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._most_bytes:
            return 413, self._too_large()
        return None

    def _too_large(self) -> str:
        return (
            f"the request has more than {self._most_bytes:,} bytes; send a smaller picture or fewer questions"
        )

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` of a body that stays below the limit and comes in time; afterwards it only waits for the client to go."""
        seen, done = 0, False
        deadline = time.monotonic() + self._body_seconds

        async def bounded() -> Message:
            nonlocal seen, done
            if done:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
            except TimeoutError as error:
                raise BodyError(408, f"the body did not come within {self._body_seconds:g} s") from error
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > self._most_bytes:
                    raise BodyError(413, self._too_large())
                done = not message.get("more_body", False)
            return message

        return bounded


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = problem(status, sentence)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
