"""Questions on their way in and out: checked, their pictures encoded in turn, queued, and shown. Knows no routes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from starlette.requests import Request

from gemkr.serve.batching import Batcher, Job
from gemkr.serve.metrics import Metrics
from gemkr.serve.refusals import RefusedError
from gemkr.serve.requests import Question
from gemkr.serve.service import GivenPicture, Key, Service
from gemkr.serve.shown import shown_ranking
from gemkr.serve.turns import Turn
from gemkr.types import Query, Ranking

T = TypeVar("T")


class Asking:
    """What questions pass, over the queue `batcher`."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self.service, self.settings, self.metrics = service, service.settings, metrics
        self.batcher = Batcher(
            service.retrieve,
            metrics,
            queue=self.settings.queue,
            batch_size=self.settings.batch_size,
            window=self.settings.window_ms / 1000,
        )
        self._encoding = Turn("pictures", most=self.settings.queue, seconds=self.settings.seconds)

    async def job(self, question: Question, stack: ExitStack, request: Request) -> Job:
        """A question on its way, its picture encoded and held until `stack` closes."""
        deadline = time.monotonic() + self.settings.seconds
        for name in ("question", "instruction", "caption"):
            length = len(getattr(question, name) or "")
            if length > self.settings.most_characters:
                raise RefusedError(
                    422,
                    f"the {name} has {length:,} characters, the limit is {self.settings.most_characters:,}; shorten it",
                )
        key = self.service.key(question.retriever, question.k, question.pool, matches=question.matches)
        image = None
        if question.picture is not None or question.picture_base64 is not None:

            def hold() -> tuple[str, ExitStack]:
                return self.service.hold(
                    key, GivenPicture(_decoded(question), question.picture, question.box)
                )

            image, held = await self.encoded(hold, request, lambda made: made[1].close())
            stack.callback(held.close)
        asked = Query(
            "", question.question, image=image, instruction=question.instruction, caption=question.caption
        )
        return Job(key, asked, deadline)

    async def encoded(
        self, work: Callable[[], T], request: Request, undo: Callable[[T], None] | None = None
    ) -> T:
        """`work` that decodes and encodes a picture, one at a time, unless the client has gone before its turn."""

        def measured() -> T:
            began = time.perf_counter()
            try:
                return work()
            finally:
                self.metrics.stage("picture", time.perf_counter() - began)

        return await self._encoding.do(measured, gone=request.is_disconnected, undo=undo)

    def shown(self, ranking: Ranking, job: Job, question: Question) -> dict[str, Any]:
        """A ranking as the answer has it."""
        assert isinstance(job.key, Key)
        name = job.key.retriever
        return shown_ranking(
            ranking,
            name,
            job,
            self.service.edition.tokenizer(name),
            evidence=question.evidence,
            clues=question.clues,
        )


def _decoded(question: Question) -> bytes | None:
    try:
        return question.picture_bytes()
    except ValueError as error:
        raise RefusedError(422, str(error)) from error
