"""Slow work of requests on threads, one piece of a kind at a time, so that the event loop never waits. Knows no requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gemkr.serve.refusals import BusyError, GivenUpError

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Turn:
    """Blocking work, one piece at a time in order of arrival; at most `most` callers wait, each for `seconds`.

    Belongs to the event loop that first waits. `what` names the work in the sentences of errors.
    """

    def __init__(self, what: str, *, most: int, seconds: float) -> None:
        self._what, self._most, self._seconds = what, most, seconds
        self._lock, self._waiting = asyncio.Lock(), 0

    async def do(
        self,
        work: Callable[[], T],
        *,
        gone: Callable[[], Awaitable[bool]] | None = None,
        undo: Callable[[T], None] | None = None,
    ) -> T:
        """What `work` returns, run on a thread. BusyError when too many wait; GivenUpError when the turn does not come in time, or
        when `gone` says that nobody waits for it any more.

        A thread cannot be stopped: where the caller is cancelled meanwhile, the turn lasts until the work is done, and `undo` is
        told what it has returned.
        """
        await self._come()
        try:
            if gone is not None and await gone():
                raise GivenUpError("nobody waits for this any more")
            running = asyncio.get_running_loop().run_in_executor(None, work)
        except BaseException:
            self._lock.release()
            raise
        running.add_done_callback(lambda _: self._lock.release())
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            running.add_done_callback(lambda done: _take_back(done, undo))
            raise

    async def _come(self) -> None:
        if self._waiting >= self._most:
            raise BusyError(f"too many {self._what} are waiting; ask again in a moment", 2)
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._lock.acquire()
        except TimeoutError:
            raise GivenUpError(
                f"the {self._what} before took longer than {self._seconds:g} s; ask again later, or raise serve.seconds"
            ) from None
        finally:
            self._waiting -= 1


def _take_back(done: asyncio.Future[T], undo: Callable[[T], None] | None) -> None:
    if done.cancelled():
        return
    error = done.exception()
    if error is not None:
        logger.error("work that nobody waited for any more failed", exc_info=error)
    elif undo is not None:
        undo(done.result())
