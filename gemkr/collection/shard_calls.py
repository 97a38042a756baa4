"""Calls of the shards of an index: one message to each, all answers waited for, and what becomes of a shard that is gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from gemkr.errors import GemkrError, ShardError

logger = logging.getLogger(__name__)

NONE_LEFT = "no shard is left; start them again"


class Shard(Protocol):
    """One shard: `send` hands over a call of `ShardServer`, `receive` waits for its result. Both raise ShardError when it is gone.
    `documents`: how many it holds, where that is known before it answers."""

    name: str
    documents: int | None

    def send(self, method: str, *args: Any) -> None: ...

    def receive(self) -> Any: ...


class ShardCalls:
    """One call at a time, from any thread. A shard that is gone fails the call, or with `partial` is left out from then on: `alive`
    are the numbers of the others, `lost` its name among those before."""

    def __init__(self, shards: Sequence[Shard], *, partial: bool) -> None:
        self.shards, self.partial = list(shards), partial
        self.alive = list(range(len(shards)))
        self.lost: list[str] = []
        self.documents: Sequence[int] = [0] * len(shards)
        self.lock = threading.RLock()

    @property
    def searched(self) -> float:
        """The share of all `documents` that the shards left hold."""
        return sum(self.documents[s] for s in self.alive) / max(sum(self.documents), 1)

    def each(
        self, method: str, args: Callable[[int], tuple], shards: Sequence[int] | None = None
    ) -> dict[int, Any]:
        """The answers of the shards, or of all that are alive; none of one that is lost meanwhile."""
        with self.lock:
            return self._asked(method, args, self.alive if shards is None else shards)

    def one(self, s: int, method: str, *args: Any) -> Any:
        """One shard's answer; ShardError where it is lost."""
        answers = self.each(method, lambda s: args, [s]) if s in self.alive else {}
        if s not in answers:
            raise ShardError(f"the shard {self.shards[s].name} is lost; start it again")
        return answers[s]

    def _asked(self, method: str, args: Callable[[int], tuple], shards: Sequence[int]) -> dict[int, Any]:
        """All get the call before the first answer is waited for."""
        if not self.alive:
            raise ShardError(NONE_LEFT)
        sent, answers = [], {}
        faults: list[Exception] = []
        for s in list(shards):
            try:
                self.shards[s].send(method, *args(s))
                sent.append(s)
            except ShardError as error:
                self._lose(s, error, faults)
        for s in sent:  # all, whatever becomes of one, so that no answer is left for the next call
            try:
                answers[s] = self.shards[s].receive()
            except ShardError as error:
                self._lose(s, error, faults)
            except GemkrError as error:
                faults.append(error)
        if faults:
            raise faults[0]
        return answers

    def _lose(self, s: int, error: ShardError, faults: list[Exception]) -> None:
        if not self.partial:
            faults.append(error)
            return
        self.alive = [each for each in self.alive if each != s]
        self.lost.append(self.shards[s].name)
        if not self.alive:
            faults.append(ShardError(NONE_LEFT))
        logger.warning("%s; %.0f %% of the documents are searched without it", error, 100 * self.searched)
