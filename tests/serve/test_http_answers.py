"""Answers to clients that leave, and the threads that answers are made on."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from serve.live import listening
from serve.tiny_service import tiny_service
from starlette.requests import Request

import gemkr.serve.answers as answers_module
from gemkr.client import Client
from gemkr.interfaces import GrowingClue
from gemkr.serve import following
from gemkr.serve.answers import GrowingAnswer, all_rankings
from gemkr.serve.batching import Job
from gemkr.serve.refusals import GivenUpError
from gemkr.types import Query, Ranking

SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


def job() -> Job:
    return Job("key", Query("1", "a question"), time.monotonic() + 20)


async def gone() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_a_stream_whose_client_left_before_it_began_lets_everything_go() -> None:
    let_go: list[bool] = []

    async def answered() -> Job:
        one, held = job(), ExitStack()
        held.callback(let_go.append, True)
        response = GrowingAnswer(one, lambda ranking: {}).response(Request(SCOPE, gone), held)

        async def send(message: Any) -> None:
            await asyncio.sleep(0)

        await response(SCOPE, gone, send)
        return one

    assert asyncio.run(answered()).cancelled
    assert let_go == [True]


def test_a_client_that_does_not_read_its_stream_holds_nothing_after_the_answer() -> None:
    let_go: list[bool] = []

    async def answered() -> None:
        one, held, begun = job(), ExitStack(), asyncio.Event()
        held.callback(let_go.append, True)
        response = GrowingAnswer(one, lambda ranking: {}).response(Request(SCOPE, gone), held)

        async def connected() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def full(message: Any) -> None:
            begun.set()
            await asyncio.Event().wait()

        stream = asyncio.create_task(response(SCOPE, connected, full))
        await begun.wait()
        assert not let_go
        await asyncio.to_thread(one.result.set_result, Ranking("1", ()))
        assert let_go == [True]
        assert not stream.done()
        stream.cancel()
        await asyncio.gather(stream, return_exceptions=True)

    asyncio.run(answered())
    assert let_go == [True]


def test_clues_that_grow_after_the_loop_has_ended_hurt_nobody() -> None:
    async def made() -> Job:
        one = job()
        GrowingAnswer(one, lambda ranking: {})
        return one

    one = asyncio.run(made())
    assert one.look is not None
    one.look([GrowingClue((1,), "x", -1.0, False)])
    one.result.set_result(Ranking("1", ()))


def test_only_a_client_that_leaves_ends_the_waiting() -> None:
    """A server may hand over an empty end of the body first."""

    async def answered(*messages: str) -> list[Ranking]:
        one, coming = job(), iter(messages)

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(0.01)
            kind = next(coming, None)
            if kind is None:
                one.result.set_result(Ranking("1", ()))
                await asyncio.sleep(20)
            return {"type": kind}

        return await all_rankings([one], Request(SCOPE, receive))

    assert len(asyncio.run(answered("http.request"))) == 1
    with pytest.raises(GivenUpError, match="has gone"):
        asyncio.run(answered("http.request", "http.disconnect"))


def test_an_answer_is_given_up_when_its_time_is_over_whatever_the_thread_is_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers_module, "GRACE", 0.05)
    monkeypatch.setattr(answers_module, "HEARTBEAT", 0.05)

    async def stays() -> dict[str, Any]:
        return await asyncio.Event().wait()

    def stuck() -> Job:
        return Job("key", Query("1", "a question"), time.monotonic() + 0.1)

    async def streamed() -> str:
        one = stuck()
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))

        answer = GrowingAnswer(one, lambda ranking: {})
        await answer.response(Request(SCOPE, stays), ExitStack())(SCOPE, stays, send)
        assert one.cancelled
        return b"".join(sent).decode()

    one = stuck()
    with pytest.raises(GivenUpError, match=r"not answered within 0\.1 s"):
        asyncio.run(all_rankings([one], Request(SCOPE, stays)))
    assert one.cancelled
    told = asyncio.run(asyncio.wait_for(streamed(), 10))
    assert "event: problem" in told
    assert "not answered within 0.1 s" in told


def test_health_is_answered_while_every_thread_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, go, busy = tiny_service(tmp_path), threading.Event(), threading.Semaphore(0)

    def slow(*_: Any) -> dict[str, Any]:
        busy.release()
        assert go.wait(30)
        return {}

    monkeypatch.setattr(service, "following", slow)
    with listening(service) as url, ThreadPoolExecutor(44) as pool:
        try:
            waiting = [pool.submit(Client(url).following) for _ in range(44)]
            for _ in range(40):
                assert busy.acquire(timeout=20)
            for path in ("/health", "/ready", "/v1/retrievers"):
                assert urlopen(url + path, timeout=10).status == 200
        finally:
            go.set()
        assert [each.result(20) for each in waiting] == [{}] * 44


def test_a_collection_is_looked_at_again_after_any_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(following, "FOLLOW_SECONDS", 0.01)
    service, looked = SimpleNamespace(writable=True), []

    def follow() -> None:
        looked.append(time.monotonic())
        if len(looked) < 3:
            raise OSError("a file is gone")
        service.writable = False

    service.follow = follow
    asyncio.run(following.follow(service))
    assert len(looked) == 3
    assert looked[2] - looked[1] > looked[1] - looked[0] > 0.015
    assert "OSError: a file is gone" in caplog.text
