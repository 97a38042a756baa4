"""Slow work on threads: one piece at a time, and nothing is lost where a caller is cancelled, leaves, or waits too long."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from gemkr.serve.refusals import BusyError, GivenUpError
from gemkr.serve.turns import Turn


class Gate:
    """Work that waits until it is let through."""

    def __init__(self, outcome: Any = "made") -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self._outcome = outcome

    def __call__(self) -> Any:
        self.entered.set()
        assert self.open.wait(10)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def turn(**given: Any) -> Turn:
    return Turn("pictures", **({"most": 4, "seconds": 10.0} | given))


async def cancelled(doing: asyncio.Task[Any], gate: Gate) -> None:
    """Cancel a caller whose work has begun."""
    await asyncio.to_thread(gate.entered.wait, 10)
    doing.cancel()
    with suppress(asyncio.CancelledError):
        await doing


def test_work_is_done_one_piece_at_a_time_in_order() -> None:
    running, most, order = 0, 0, []

    def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        order.append(number)
        running -= 1
        return number

    async def all_of_it() -> list[int]:
        one = turn(most=9)
        return await asyncio.gather(*(one.do(lambda n=n: work(n)) for n in range(8)))

    assert asyncio.run(all_of_it()) == order == list(range(8))
    assert most == 1


def test_a_cancelled_caller_leaves_the_turn_to_its_work_and_takes_back_what_it_made() -> None:
    taken_back: list[str] = []

    async def all_of_it() -> None:
        one, gate = turn(), Gate()
        await cancelled(asyncio.create_task(one.do(gate, undo=taken_back.append)), gate)
        following = asyncio.create_task(one.do(lambda: list(taken_back)))
        await asyncio.sleep(0.05)
        assert not following.done()
        gate.open.set()
        assert await following == ["made"]

    asyncio.run(all_of_it())


def test_what_fails_after_its_caller_was_cancelled_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def all_of_it() -> None:
        one, gate = turn(), Gate(ZeroDivisionError("inside"))
        await cancelled(
            asyncio.create_task(one.do(gate, undo=lambda _: pytest.fail("nothing was made"))), gate
        )
        gate.open.set()
        await one.do(lambda: None)

    with caplog.at_level(logging.ERROR):
        asyncio.run(all_of_it())
    assert "ZeroDivisionError: inside" in caplog.text


def test_faults_of_work_are_the_callers_and_the_turn_is_free_again() -> None:
    async def all_of_it() -> str:
        one = turn()
        with pytest.raises(ZeroDivisionError):
            await one.do(lambda: 1 // 0)
        return await one.do(lambda: "next")

    assert asyncio.run(all_of_it()) == "next"


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ({"most": 1, "seconds": 10.0}, BusyError, "too many pictures are waiting; ask again"),
        ({"most": 9, "seconds": 0.05}, GivenUpError, "took longer than 0.05 s; ask again later"),
    ],
)
def test_who_cannot_wait_is_told_so(given: dict[str, Any], kind: type[Exception], says: str) -> None:
    async def all_of_it() -> None:
        one, gate = turn(**given), Gate()
        first = asyncio.create_task(one.do(gate))
        await asyncio.to_thread(gate.entered.wait, 10)
        second = asyncio.create_task(one.do(lambda: None))
        await asyncio.sleep(0)
        with pytest.raises(kind, match=says):
            await (one.do(lambda: None) if kind is BusyError else second)
        gate.open.set()
        assert await first == "made"
        if kind is BusyError:
            await second
        assert await one.do(lambda: "again") == "again"

    asyncio.run(all_of_it())


def test_work_of_a_client_that_has_gone_is_not_begun() -> None:
    begun: list[int] = []

    def asked(answer: bool) -> Callable[[], Any]:
        async def gone() -> bool:
            return answer

        return gone

    async def all_of_it() -> None:
        one = turn()
        with pytest.raises(GivenUpError, match="nobody waits"):
            await one.do(lambda: begun.append(1), gone=asked(True))
        await one.do(lambda: begun.append(2), gone=asked(False))

    asyncio.run(all_of_it())
    assert begun == [2]
