"""The order of the data: which samples make up which batch of which epoch, from seed and epoch alone.

No state and no torch: an interrupted epoch is resumed by counting batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW = 50
"""Samples are sorted by length within windows of this many batches, and so share batches with their like."""


class BatchOrder:
    """Shuffled, length-bucketed batches of the samples 0, 1, ..., n - 1.

    `lengths[i]` is sample i's number of tokens; `groups[i]` its query: the samples of one query are spread evenly over
    each epoch, so that they rarely meet in a batch. `batch_size` counts the samples of all devices together. With
    `drop_last` an incomplete last batch is left out (it could leave a device without work).
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int,
        *,
        groups: Sequence[int] | None = None,
        drop_last: bool = False,
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._groups = np.arange(len(lengths)) if groups is None else np.asarray(groups, dtype=np.int64)
        self._batch_size = batch_size
        self._seed = seed
        self._drop_last = drop_last and len(lengths) >= batch_size

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self._lengths), self._batch_size)
        return whole + (rest > 0 and not self._drop_last)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """The batches of an epoch in order, int64[<= batch_size] sample numbers each. Cost: O(n log n)."""
        rng = np.random.default_rng([self._seed, epoch])
        order = self._spread(rng)
        size, batches = self._batch_size, []
        for start in range(0, len(order), size * WINDOW):
            window = order[start : start + size * WINDOW]
            window = window[np.argsort(self._lengths[window], kind="stable")]
            batches += [window[i : i + size] for i in range(0, len(window), size)]
        short = [batches.pop()] if batches and len(batches[-1]) < size else []
        shuffled = [batches[i] for i in rng.permutation(len(batches))]
        return shuffled if self._drop_last else shuffled + short

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
