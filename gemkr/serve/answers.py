"""From jobs and errors to HTTP answers: waiting for rankings, streams of growing clues, problem+json. Knows no routes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gemkr.errors import GemkrError
from gemkr.interfaces import GrowingClue
from gemkr.serve.batching import Job
from gemkr.serve.guard import problem
from gemkr.serve.messages import finite
from gemkr.serve.refusals import BROKEN, GivenUpError, status_of
from gemkr.types import Ranking

logger = logging.getLogger(__name__)
HEARTBEAT = 1.0
"""Seconds between signs of life in a stream."""
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def as_json(value: Any) -> Response:
    """A JSON answer that no cache keeps."""
    return JSONResponse(finite(value), headers={"Cache-Control": "no-store"})


def answer_error(request: Request, error: Exception) -> Response:
    """The answer to an error; what is no fault of the request says nothing of the inside."""
    status, body, headers = _problem_of(error)
    return Response(body, status, headers, media_type="application/problem+json")


def answer_faults(request: Request, error: Any) -> Response:
    """The answer to a request that is not what its route takes: the first of `error.errors()` in one sentence, no values."""
    faults = error.errors()
    places = [str(part) for part in faults[0]["loc"] if part not in ("body", "query", "path", "one", "many")]
    message = str(faults[0]["msg"]).removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    where = f"{'.'.join(places)[:200]}: " if places else ""
    return answer_error(request, HTTPException(422, f"{where}{message}{more}"))


async def all_rankings(jobs: Sequence[Job], request: Request) -> list[Ranking]:
    """The rankings of the jobs; the first error there is; GivenUpError, and no more work, when the client has gone."""
    everything = asyncio.gather(*(asyncio.wrap_future(job.result) for job in jobs), return_exceptions=True)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({everything, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not everything.done():
            raise GivenUpError("the client has gone")
        results = await everything
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results
    finally:
        gone.cancel()
        for job in jobs:
            job.cancel()


class GrowingAnswer:
    """The events of one job: make it before the job is submitted, and answer with `response()` afterwards."""

    def __init__(self, job: Job, shown: Callable[[Ranking], dict[str, Any]]) -> None:
        """`shown(ranking)` is what the last event holds. Clues that grow are handed over from the working thread."""
        self._job, self._shown = job, shown
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[list[GrowingClue] | None] = asyncio.Queue()
        job.look = self._post
        job.result.add_done_callback(lambda _: self._post(None))

    def response(self, request: Request, held: ExitStack) -> Response:
        """The stream, until the answer is there or the client has gone; `held` is closed then."""
        lines = self._lines(request, held)
        return StreamingResponse(lines, media_type="text/event-stream", headers=STREAM_HEADERS)

    async def _lines(self, request: Request, held: ExitStack) -> AsyncIterator[str]:
        step = 0
        with held:
            try:
                while True:
                    try:
                        clues = await asyncio.wait_for(self._events.get(), HEARTBEAT)
                    except TimeoutError:
                        if await request.is_disconnected():
                            return
                        yield ": waiting\n\n"
                        continue
                    if clues is None:
                        break
                    step += 1
                    yield _event("clues", {"step": step, "clues": [_grown(clue) for clue in clues]})
                error = self._job.result.exception()
                if error is None:
                    yield _event("ranking", self._shown(self._job.result.result()))
                else:
                    yield _event("problem", json.loads(_problem_of(error)[1]))
            finally:
                self._job.cancel()

    def _post(self, event: list[GrowingClue] | None) -> None:
        """Hand an event to the stream; a loop that has ended has nobody to hear it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(finite(data), ensure_ascii=False)}\n\n"


def _grown(clue: GrowingClue) -> dict[str, Any]:
    return {
        "text": clue.text,
        "log_prob": clue.log_prob,
        "tokens": len(clue.tokens),
        "finished": clue.finished,
    }


def _problem_of(error: BaseException) -> tuple[int, bytes, dict[str, str]]:
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        status, sentence = error.status_code, str(error.detail)
        headers = dict(error.headers or {})
    elif isinstance(error, GemkrError):
        status, sentence = status_of(error), str(error)
        headers = getattr(error, "headers", {})
    else:
        logger.error("a request failed", exc_info=error)
        status, sentence = 500, BROKEN
    return status, problem(status, sentence), headers
