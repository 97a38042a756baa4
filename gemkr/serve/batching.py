"""Questions that wait, and the thread that retrieves them together.

Knows queries and rankings; nothing of HTTP, models or indexes. What a job does not wait for any more (cancelled, or past its
time) is taken out of the queue, or out of the running search between two of its steps.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from gemkr.errors import GemkrError
from gemkr.interfaces import GrowingClue, Watch
from gemkr.serve.refusals import BROKEN, BusyError, GivenUpError, RefusedError
from gemkr.types import Query, Ranking

logger = logging.getLogger(__name__)
Retrieve = Callable[[Hashable, Sequence[Query], Watch], Iterable[Ranking]]
"""One ranking per query, in order, for queries that may be retrieved together because their keys are equal."""
Look = Callable[[list[GrowingClue]], None]


class Meter(Protocol):
    """What is told of the work."""

    def waiting(self, jobs: int) -> None: ...

    def taken(self, jobs: int) -> None: ...

    def stage(self, name: str, seconds: float) -> None: ...


@dataclass(eq=False)
class Job:
    """One question under way. `result` gets its ranking or why there is none; `look` sees its clues grow, in the working thread."""

    key: Hashable
    query: Query
    deadline: float
    look: Look | None = None
    result: Future[Ranking] = field(default_factory=Future)
    cancelled: bool = False
    arrived: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    worked: float = 0.0
    together: int = 0

    def __post_init__(self) -> None:
        self.result.set_running_or_notify_cancel()  # nobody but the worker ends it

    def cancel(self) -> None:
        """Nobody waits for it any more: its search stops after the step that it is at."""
        self.cancelled = True

    @property
    def wanted(self) -> bool:
        return not self.cancelled and time.monotonic() < self.deadline


class Batcher:
    """A bounded queue before one working thread, which takes up to `batch_size` jobs of one key at once, first come first served.

    A job waits `window` seconds for others of its key, counted from when it came or, if that is later, from the end of the batch
    before, whose askers come back with their next questions then. Start with `start()`; `close()` finishes what was taken in.
    """

    def __init__(
        self, retrieve: Retrieve, meter: Meter, *, queue: int, batch_size: int, window: float
    ) -> None:
        self._retrieve, self._meter = retrieve, meter
        self._queue, self._batch_size, self._window = queue, batch_size, window
        self._jobs: list[Job] = []
        self._working: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._numbers = itertools.count(1)
        self._rate, self._free = 0.05, 0.0
        self._thread = threading.Thread(target=self._work, name="retrieval", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether new jobs are taken in and worked at."""
        return self._thread.is_alive() and not self._closed

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Take in all of the jobs or none of them: BusyError where the queue has no room, RefusedError when closed, or for more
        jobs than the queue ever holds.

        Each query gets an id of its own, since several clients may use one.
        """
        if len(jobs) > self._queue:
            raise RefusedError(
                422,
                f"there are {len(jobs)} queries and the queue holds {self._queue}; send them in parts, or raise serve.queue",
            )
        with self._changed:
            if self._closed:
                raise RefusedError(
                    503, "the service is stopping; ask again when it is back", {"Retry-After": "5"}
                )
            room = self._queue - len(self._jobs)
            if len(jobs) > room:
                seconds = (len(self._jobs) + len(jobs)) * self._rate
                raise BusyError(
                    f"{len(self._jobs)} questions are waiting and the queue holds {self._queue}, so that {len(jobs)} more do "
                    f"not fit; ask again in {max(1, round(seconds))} s",
                    seconds,
                )
            for job in jobs:
                job.query = replace(job.query, query_id=str(next(self._numbers)))
            self._jobs += jobs
            self._meter.waiting(len(self._jobs))
            self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Take nothing new, finish what is there, at most for so long; the rest is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(seconds)
        self._refuse_all()

    def _refuse_all(self) -> None:
        with self._changed:
            self._closed = True
            left, self._jobs = [*self._jobs, *self._working], []
        for job in left:
            job.cancel()
            _end(job, RefusedError(503, "the service has stopped; ask again when it is back"))

    def _work(self) -> None:
        """Answer until closed; whatever ends it, nobody waits for it afterwards."""
        try:
            self._answer_all()
        finally:
            self._refuse_all()

    def _answer_all(self) -> None:
        while batch := self._take():
            self._working, began = batch, time.monotonic()
            self._meter.taken(len(batch))
            for job in batch:
                job.together, job.waited = len(batch), began - job.arrived
                self._meter.stage("wait", job.waited)
            self._answer(batch)
            self._working = []
            self._free = time.monotonic()
            seconds = self._free - began
            self._rate += 0.2 * (seconds / len(batch) - self._rate)
            self._meter.stage("retrieve", seconds)

    def _take(self) -> list[Job]:
        """The next jobs of one key, after waiting for more of them; [] when closed and done."""
        with self._changed:
            while True:
                for job in self._jobs:
                    if not job.wanted:
                        _end(job, given_up(job))
                self._jobs = [job for job in self._jobs if not job.result.done()]
                if self._jobs:
                    first = self._jobs[0]
                    same = [job for job in self._jobs if job.key == first.key][: self._batch_size]
                    left = max(first.arrived, self._free) + self._window - time.monotonic()
                    if len(same) == self._batch_size or left <= 0 or self._closed:
                        taken = set(map(id, same))
                        self._jobs = [job for job in self._jobs if id(job) not in taken]
                        self._meter.waiting(len(self._jobs))
                        return same
                    self._changed.wait(left)
                elif self._closed:
                    return []
                else:
                    self._meter.waiting(0)
                    self._changed.wait(1.0)

    def _answer(self, batch: Sequence[Job]) -> None:
        """Retrieve a batch; where it fails, each of its jobs alone, so that none fails for another's fault."""
        try:
            self._retrieve_all(batch)
        except Exception as error:
            left = [job for job in batch if not job.result.done()]
            if len(batch) > 1:
                if not isinstance(error, GemkrError):
                    logger.warning(
                        "%d questions failed together, each is tried alone", len(batch), exc_info=error
                    )
                for job in left:
                    self._answer([job])
                return
            if not isinstance(error, GemkrError):
                logger.exception("a question could not be answered")
                error = RefusedError(500, BROKEN)
            for job in left:
                _end(job, error)

    def _retrieve_all(self, batch: Sequence[Job]) -> None:
        for job in batch:
            if not job.wanted:
                _end(job, given_up(job))
        batch = [job for job in batch if not job.result.done()]
        if not batch:
            return
        jobs = {job.query.query_id: job for job in batch}

        def watch(query: Query, growing: Callable[[], list[GrowingClue]]) -> bool:
            job = jobs[query.query_id]
            if job.wanted and job.look is not None:
                job.look(growing())
            return job.wanted

        began = time.monotonic()
        rankings = iter(self._retrieve(batch[0].key, [job.query for job in batch], watch))
        for job in batch:
            ranking = next(rankings)
            job.worked = time.monotonic() - began
            _end(job, ranking if job.wanted else given_up(job))


def given_up(job: Job) -> GivenUpError:
    """Why a job that is not wanted any more has no answer."""
    if job.cancelled:
        return GivenUpError("nobody waits for this question any more")
    seconds = round(job.deadline - job.arrived, 1)
    return GivenUpError(
        f"the question was not answered within {seconds} s; ask again later, or raise serve.seconds"
    )


def _end(job: Job, outcome: Ranking | GemkrError) -> None:
    """Give a job its outcome, unless another thread was first."""
    with suppress(InvalidStateError):
        if isinstance(outcome, Ranking):
            job.result.set_result(outcome)
        else:
            job.result.set_exception(outcome)
