"""The queue and its thread: jobs of one key go together, none gets another's answer, and none waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from gemkr.errors import DataError
from gemkr.interfaces import Watch
from gemkr.serve.batching import Batcher, Job
from gemkr.serve.refusals import BusyError, GivenUpError, RefusedError
from gemkr.types import Hit, Query, Ranking


class Meter:
    """Notes the sizes of batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def waiting(self, jobs: int) -> None: ...

    def taken(self, jobs: int) -> None:
        self.sizes.append(jobs)

    def stage(self, name: str, seconds: float) -> None: ...


def echo(key: Any, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
    """The question as the name of the only hit."""
    for query in queries:
        yield Ranking(query.query_id, (Hit(f"{key} {query.question}", 1.0),))


def job(question: str, key: Any = "a", seconds: float = 20) -> Job:
    return Job(key, Query("same id", question), time.monotonic() + seconds)


def batcher(retrieve: Callable[..., Any] = echo, **given: Any) -> Batcher:
    return Batcher(retrieve, Meter(), **({"queue": 100, "batch_size": 8, "window": 0.01} | given))


def test_what_waits_is_retrieved_together_in_order_of_arrival() -> None:
    one = batcher()
    jobs = [job(str(number), "ab"[number % 3 == 0]) for number in range(24)]
    one.submit(jobs)
    one.start()
    for each in jobs:
        assert each.result.result(10).hits[0].doc_id == f"{each.key} {each.query.question}"
    assert one._meter.sizes == [8, 8, 8]
    assert [each.together for each in jobs] == [8] * 24
    one.close(5)


def test_many_threads_get_their_own_answers() -> None:
    one, wrong = batcher(), []
    one.start()

    def ask(name: int) -> None:
        for number in range(30):
            mine = job(f"{name} {number}", number % 2)
            one.submit([mine])
            if mine.result.result(10).hits[0].doc_id != f"{number % 2} {name} {number}":
                wrong.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(one._meter.sizes) == 360
    assert max(one._meter.sizes) > 1
    one.close(5)


def test_who_asks_again_at_once_goes_with_those_who_waited() -> None:
    running, go = threading.Event(), threading.Event()

    def gated(key: Any, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        running.set()
        assert go.wait(10)
        yield from echo(key, queries, watch)

    one = batcher(gated, window=0.3)
    first, second, again = job("first"), job("second"), job("again")
    one.submit([first])
    one.start()
    assert running.wait(10)
    one.submit([second])
    time.sleep(0.4)  # longer than its window
    go.set()
    first.result.result(10)
    one.submit([again])
    assert again.result.result(10).hits[0].doc_id == "a again"
    assert (first.together, second.together, again.together) == (1, 2, 2)
    one.close(5)


def test_a_full_queue_takes_all_of_a_request_or_nothing() -> None:
    one = batcher(queue=3)
    one.submit([job("1"), job("2")])
    with pytest.raises(
        BusyError, match="2 questions are waiting and the queue holds 3, so that 2 more do not fit"
    ) as error:
        one.submit([job("3"), job("4")])
    assert int(error.value.headers["Retry-After"]) >= 1
    assert one.waiting == 2
    one.submit([job("3")])
    one.start()
    one.close(5)
    assert one.waiting == 0


def test_more_than_the_queue_ever_holds_is_not_told_to_come_again() -> None:
    one = batcher(queue=3)
    with pytest.raises(RefusedError, match="4 queries and the queue holds 3; send them in parts") as error:
        one.submit([job(str(number)) for number in range(4)])
    assert (error.value.status, error.value.headers) == (422, {})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_where_the_thread_dies_nobody_waits_for_it() -> None:
    one = batcher(batch_size=1)
    one._meter.stage = lambda name, seconds: 1 / 0  # a fault of the service itself, not of a question
    jobs = [job("1"), job("2")]
    one.submit(jobs)
    one.start()
    for each in jobs:
        with pytest.raises(RefusedError, match="has stopped"):
            each.result.result(10)
    one._thread.join(10)
    assert not one.alive
    with pytest.raises(RefusedError, match="is stopping"):
        one.submit([job("3")])


def test_a_batch_that_failed_is_logged_and_not_tried_again_for_those_who_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[list[str]] = []

    def failing(key: Any, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        asked.append([query.question for query in queries])
        if len(queries) > 1:
            jobs[0].cancel()
            raise ZeroDivisionError("of a batch")
        yield from echo(key, queries, watch)

    one, jobs = batcher(failing), [job("left"), job("stays")]
    one.submit(jobs)
    one.start()
    with pytest.raises(GivenUpError, match="nobody waits"):
        jobs[0].result.result(10)
    assert jobs[1].result.result(10).hits[0].doc_id == "a stays"
    assert asked == [["left", "stays"], ["stays"]]
    assert "2 questions failed together" in caplog.text
    assert "ZeroDivisionError: of a batch" in caplog.text
    one.close(5)


def test_a_fault_is_the_fault_of_its_own_question() -> None:
    def picky(key: Any, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        for query in queries:
            if query.question == "bad":
                raise DataError("this question is bad; ask another")
            if query.question == "worse":
                raise ZeroDivisionError("inside")
            yield Ranking(query.query_id, (Hit(query.question, 1.0),))

    one = batcher(picky)
    jobs = [job(word) for word in ("1", "bad", "2", "worse", "3")]
    one.submit(jobs)
    one.start()
    assert [jobs[at].result.result(10).hits[0].doc_id for at in (0, 2, 4)] == ["1", "2", "3"]
    with pytest.raises(DataError, match="this question is bad"):
        jobs[1].result.result(10)
    with pytest.raises(RefusedError, match="its log says why"):
        jobs[3].result.result(10)
    assert one.alive
    one.close(5)


def stepping(steps: list[str], go: threading.Event | None = None) -> Callable[..., Iterator[Ranking]]:
    """A retriever of 500 steps a batch that asks its watch after each."""

    def retrieve(key: Any, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        live = list(queries)
        for _ in range(500):
            live = [query for query in live if watch(query, list)]
            steps.append(",".join(query.question for query in live))
            if not live:
                break
            time.sleep(0.002)
        return iter([Ranking(query.query_id, ()) for query in queries])

    return retrieve


def test_what_nobody_waits_for_is_stopped_between_two_steps() -> None:
    steps: list[str] = []
    one = batcher(stepping(steps))
    gone, stays = job("gone"), job("stays")
    one.submit([gone, stays])
    one.start()
    while len(steps) < 3:
        time.sleep(0.001)
    gone.cancel()
    with pytest.raises(GivenUpError, match="nobody waits"):
        gone.result.result(20)
    stays.result.result(20)
    assert steps[0] == "gone,stays"
    assert steps[-1] == "stays"
    assert len(steps) == 500
    one.close(5)


def test_a_question_past_its_time_is_given_up_in_the_queue_and_in_the_search() -> None:
    steps: list[str] = []
    one = batcher(stepping(steps))
    slow, late = job("slow", seconds=0.1), job("late", "other key", seconds=0.05)
    one.submit([slow, late])
    one.start()
    for each, seconds in ((slow, "0.1"), (late, "0.1|0.0|0.05")):
        with pytest.raises(GivenUpError, match=rf"not answered within ({seconds}) s"):
            each.result.result(20)
    assert 0 < len(steps) < 500
    one.close(5)


def test_closing_finishes_what_was_taken_in_and_refuses_what_is_new() -> None:
    one = batcher(window=5.0)
    jobs = [job(str(number)) for number in range(5)]
    one.submit(jobs)
    one.start()
    one.close(10)
    assert [each.result.result(0).hits[0].doc_id for each in jobs] == [f"a {number}" for number in range(5)]
    assert not one.alive
    with pytest.raises(RefusedError, match="is stopping"):
        one.submit([job("late")])


def test_closing_does_not_wait_for_ever() -> None:
    held = threading.Event()

    def stuck(key: Any, queries: Sequence[Query], watch: Watch) -> Iterator[Ranking]:
        held.wait(20)
        yield from echo(key, queries, watch)

    one = batcher(stuck, batch_size=1)
    jobs = [job("1"), job("2")]
    one.submit(jobs)
    one.start()
    one.close(0.1)
    for each in jobs:
        with pytest.raises(RefusedError, match="has stopped"):
            each.result.result(1)
    held.set()
