"""Which batches a training run is fed, step by step, on each of its devices.

A function of the configuration and the step alone: a run resumed at step k is fed what an uninterrupted one would be. Knows
datasets, collators and orders; nothing of models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.training.loop.config import LoopConfig
from gemkr.training.loop.order import BatchOrder, SubBatches


@dataclass(frozen=True)
class TrainingData:
    """`dataset[i]` is sample i, `collate(samples)` a batch: a mapping with `labels` (int64[B, T], IGNORED_LABEL left out), or
    anything with a `target_count()`.

    `lengths`, `groups` and `sub_batches` are what `BatchOrder` sorts, spreads and fills batches by. `development` is a second dataset whose loss is
    measured, never learned, at each checkpoint. Where samples differ `by_epoch`, sample i of epoch e has the number e * n + i.
    """

    dataset: Sequence[Any]
    collate: Callable[[list[Any]], Any]
    lengths: Sequence[int]
    groups: Sequence[int] | None = None
    development: Sequence[Any] = ()
    sub_batches: SubBatches | None = None
    by_epoch: bool = False


class BatchFeed:
    """The batches of one process of a run: `rank` of `world`; `pin_memory` where they go to a CUDA device."""

    def __init__(
        self, data: TrainingData, config: LoopConfig, *, rank: int, world: int, pin_memory: bool
    ) -> None:
        self._data, self._config = data, config
        self._rank, self._world, self._pin_memory = rank, world, pin_memory
        self._order = BatchOrder(
            data.lengths,
            config.batch_size * world,
            config.seed,
            groups=data.groups,
            drop_last=world > 1,
            sub_batches=data.sub_batches,
        )
        self.steps_per_epoch = math.ceil(len(self._order) / config.gradient_accumulation)
        steps = config.epochs * self.steps_per_epoch
        self.total = steps if config.max_steps is None else min(steps, config.max_steps)

    def groups(self, step: int) -> Iterator[list[Any]]:
        """The batches of one step at a time, from step `step` to the last."""
        size = self._config.gradient_accumulation
        while step < self.total:
            epoch, done = divmod(step, self.steps_per_epoch)
            first = epoch * len(self._data.dataset) if self._data.by_epoch else 0
            batches = self._shard(self._order.batches(epoch)[done * size :], first)
            group: list[Any] = []
            for number, batch in enumerate(self._load(self._data.dataset, batches), 1):
                group.append(batch)
                if len(group) == size or number == len(batches):
                    step += 1
                    yield group
                    group = []
                    if step >= self.total:
                        return

    def development(self) -> DataLoader:
        """The development data in order."""
        size, numbers = self._config.batch_size, list(range(len(self._data.development)))
        batches = [numbers[i : i + size] for i in range(0, len(numbers), size)][self._rank :: self._world]
        return self._load(self._data.development, batches)

    def _shard(self, batches: list[Any], first: int) -> list[list[int]]:
        return [[first + int(i) for i in batch[self._rank :: self._world]] for batch in batches]

    def _load(self, dataset: Sequence[Any], batches: list[list[int]]) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=self._data.collate,
            num_workers=self._config.workers,
            generator=torch.Generator().manual_seed(self._config.seed),
            pin_memory=self._pin_memory,
        )


def count_targets(batch: Any) -> int:
    """How many tokens of a batch are learned; the first of a row of labels has nothing to be predicted from."""
    if not isinstance(batch, Mapping):
        return batch.target_count()
    return int((batch["labels"][:, 1:] != IGNORED_LABEL).sum())
