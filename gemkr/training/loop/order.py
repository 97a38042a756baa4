"""The order of the data: which samples make up which batch of which epoch, from seed and epoch alone.

No state and no torch: an interrupted epoch is resumed by counting batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemkr.errors import ConfigError

WINDOW = 50
"""Samples are sorted by length within windows of this many batches, and so share batches with their like."""


@dataclass(frozen=True)
class SubBatches:
    """Batches are made of blocks of `size` consecutive samples of one data set; `data_sets[i]` is the number of sample i's."""

    size: int
    data_sets: Sequence[int]


class BatchOrder:
    """Shuffled, length-bucketed batches of the samples 0, 1, ..., n - 1.

    `lengths[i]` is sample i's number of tokens; `groups[i]` its query: the samples of one query are spread evenly over
    each epoch, so that they rarely meet in a batch. `batch_size` counts the samples of all devices together. With
    `drop_last` an incomplete last batch is left out (it could leave a device without work). With `sub_batches`, samples are sorted
    and cut into blocks within their data set, and batches are filled with random blocks, then with the samples that fill no
    block (others in each epoch), data set by data set. ConfigError for blocks that do not fill a batch
    evenly, or that no data set fills.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        groups: Sequence[int] | None = None,
        drop_last: bool = False,
        sub_batches: SubBatches | None = None,
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._groups = np.arange(len(lengths)) if groups is None else np.asarray(groups, dtype=np.int64)
        self._batch_size = batch_size
        self._seed = seed
        self._drop_last = drop_last and len(lengths) >= batch_size
        self._sub_batches = sub_batches
        if sub_batches is not None:
            _require_blocks(sub_batches, batch_size)

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self._lengths), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch in order, int64[<= batch_size] sample numbers each. Cost: O(n log n)."""
        rng = np.random.default_rng([self._seed, epoch])
        order = self._spread(rng)
        size = self._batch_size
        if self._sub_batches is None:
            batches = self._cut(order, size)
        else:
            order = self._in_blocks(order, self._sub_batches, rng)
            batches = [order[i : i + size] for i in range(0, len(order), size)]
        short = [batches.pop()] if batches and len(batches[-1]) < size else []
        shuffled = [batches[i] for i in rng.permutation(len(batches))]
        return shuffled if self._drop_last else shuffled + short

    def _cut(self, order: np.ndarray, size: int) -> list[np.ndarray]:
        """Pieces of `size` samples (the last may be shorter) of like lengths."""
        pieces = []
        for start in range(0, len(order), self._batch_size * WINDOW):
            window = order[start : start + self._batch_size * WINDOW]
            window = window[np.argsort(self._lengths[window], kind="stable")]
            pieces += [window[i : i + size] for i in range(0, len(window), size)]
        return pieces

    def _in_blocks(self, order: np.ndarray, sub: SubBatches, rng: np.random.Generator) -> np.ndarray:
        """The same samples: whole blocks of one data set each in random order, then what is left of each data set."""
        data_sets = np.asarray(sub.data_sets, np.int64)[order]
        by_set = np.argsort(data_sets, kind="stable")
        borders = np.flatnonzero(np.diff(data_sets[by_set])) + 1
        blocks, rest = [], []
        for own in np.split(order[by_set], borders):
            whole = len(own) // sub.size * sub.size
            blocks += self._cut(own[:whole], sub.size)
            rest.append(own[whole:])
        return np.concatenate([*(blocks[i] for i in rng.permutation(len(blocks))), *rest])

    def _spread(self, rng: np.random.Generator) -> np.ndarray:
        """A random order in which the k samples of a group stand in different k-ths."""
        shuffled = rng.permutation(len(self._groups))
        by_group = shuffled[np.argsort(self._groups[shuffled], kind="stable")]
        groups = self._groups[by_group]
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.array([], int)
        counts = np.diff(np.r_[starts, len(groups)])
        rank = np.arange(len(groups)) - np.repeat(starts, counts)
        place = (rank + rng.random(len(groups))) / np.repeat(counts, counts)
        return by_group[np.argsort(place, kind="stable")]


def _require_blocks(sub: SubBatches, batch_size: int) -> None:
    if batch_size % sub.size:
        raise ConfigError(
            f"sub_batch {sub.size} does not divide the {batch_size} samples of a batch of all devices; set a divisor"
        )
    most = max(np.unique(sub.data_sets, return_counts=True)[1])
    if most < sub.size:
        raise ConfigError(
            f"no data set has the {sub.size} samples of a sub_batch, the largest has {most}; lower sub_batch (data sets are told "
            "apart by what stands before ':' in the query ids, else by the instructions)"
        )
