"""From jobs to HTTP answers: waiting for rankings, streams of growing clues. Knows no routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from gemkr.interfaces import GrowingClue
from gemkr.serve.batching import Job, given_up
from gemkr.serve.faults import problem_of
from gemkr.serve.messages import finite
from gemkr.serve.refusals import GivenUpError
from gemkr.types import Ranking

HEARTBEAT = 1.0
"""Seconds between signs of life in a stream."""
GRACE = 1.0
"""Seconds beyond a job's deadline in which the thread that retrieves may still say so itself."""
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def as_json(value: Any) -> Response:
    """A JSON answer that no cache keeps."""
    return JSONResponse(finite(value), headers={"Cache-Control": "no-store"})


async def all_rankings(jobs: Sequence[Job], request: Request) -> list[Ranking]:
    """The rankings of the jobs; the first error there is; GivenUpError, and no more work, when the client has gone, or when the time
    of all is over and the thread that retrieves is still at something that it cannot leave."""
    everything = asyncio.gather(*(asyncio.wrap_future(job.result) for job in jobs), return_exceptions=True)
    gone = asyncio.ensure_future(_leaving(request))
    try:
        last = max(jobs, key=lambda job: job.deadline)
        await asyncio.wait({everything, gone}, timeout=_left(last), return_when=asyncio.FIRST_COMPLETED)
        if not everything.done():
            raise GivenUpError("the client has gone") if gone.done() else given_up(last)
        results = await everything
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results
    finally:
        gone.cancel()
        for job in jobs:
            job.cancel()


def _left(job: Job) -> float:
    """Seconds until nobody waits for a job any more."""
    return job.deadline + GRACE - time.monotonic()


async def _leaving(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """A stream that says when it is over, also where it never began because the client had gone."""

    def __init__(self, lines: AsyncIterator[str], over: Callable[[], None]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers=STREAM_HEADERS)
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()


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
        """The stream, until the answer is there or the client has gone; then the job is cancelled. `held` is closed by then, or when the
        job ends, which a client that does not read cannot put off."""
        self._job.result.add_done_callback(lambda _: held.close())

        def over() -> None:
            self._job.cancel()
            held.close()

        return _Stream(self._lines(request), over)

    async def _lines(self, request: Request) -> AsyncIterator[str]:
        step = 0
        while True:
            try:
                clues = await asyncio.wait_for(self._events.get(), HEARTBEAT)
            except TimeoutError:
                if await request.is_disconnected():
                    return
                if _left(self._job) < 0:
                    yield _event("problem", json.loads(problem_of(given_up(self._job))[1]))
                    return
                yield ": waiting\n\n"
                continue
            if clues is None:
                break
            step += 1
            yield _event("clues", {"step": step, "clues": [_grown(clue) for clue in clues]})
        error = self._job.result.exception()
        if error is None:
            yield _event("ranking", await asyncio.to_thread(self._shown, self._job.result.result()))
        else:
            yield _event("problem", json.loads(problem_of(error)[1]))

    def _post(self, event: list[GrowingClue] | None) -> None:
        """Hand an event to the stream; a loop that has ended has nobody to hear it."""
        with suppress(RuntimeError):
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
