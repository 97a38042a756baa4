"""Token vectors in few bytes: the number of the nearest centroid, and for each number a code of 2, 4 or 8 bits of what is left.

After ColBERTv2's residual compression. Here a number's scale is learned for each of the width's axes, and levels by Lloyd's method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from gemkr.errors import DataError
from gemkr.progress import progress_bar
from gemkr.vector_index.clustering import Nearest, k_means
from gemkr.vector_index.npy_files import write_array

BITS = (2, 4, 8)
MOST_CENTROIDS = 1 << 16
BLOCK = 1 << 15
"""Tokens encoded at once: 16 MiB of float32 at width 128."""
ROUNDS = 20
PARTS = ("centroids", "scales", "levels")
NEAR = 0.9
"""Share of tokens whose group of centroids is taken to hold their nearest one; the others are compared with all centroids."""
UNIT = 1e-2
"""Vectors whose lengths are all so near to 1 are decoded to length 1."""


@dataclass(frozen=True)
class ResidualCodec:
    """`centroids` float32[K, width]; number d of what is left is `scales`[d] times one of the `levels` float32[2 ** bits], rising.
    `far`: the squared distance from a centroid beyond which a vector is compared with all others too."""

    centroids: np.ndarray
    scales: np.ndarray
    levels: np.ndarray
    unit: bool
    far: float = np.inf

    @classmethod
    def learned(cls, sample: np.ndarray, centroids: int, bits: int) -> ResidualCodec:
        """From token vectors float[n, width], n >= centroids, by k-means; the same for the same sample.

        DataError for widths that do not fill whole bytes.
        """
        check_width(sample.shape[1], bits)
        sample = sample.astype(np.float32, copy=False)
        return cls.fitted(sample, k_means(sample, centroids), bits)

    @classmethod
    def fitted(
        cls, sample: np.ndarray, centroids: np.ndarray, bits: int, *, progress: bool = False
    ) -> ResidualCodec:
        """With these centroids float32[K, width], scales and levels from token vectors float32[n, width]. Memory beside these: twice
        theirs."""
        lengths = np.linalg.norm(sample, axis=1)
        nearest = Nearest(centroids)
        with progress_bar(
            total=2 * len(sample), desc="assigning the sample", unit=" tokens", disable=not progress
        ) as bar:
            rest = _rest(sample, centroids, nearest, bar.update)
            nearest.far = float(np.quantile((rest**2).sum(axis=1), NEAR))
            del rest
            rest = _rest(sample, centroids, nearest, bar.update)
        scales = np.sqrt((rest**2).mean(axis=0))
        scaled = np.sort((rest / np.where(scales > 0, scales, 1))[:: max(1, len(rest) // 4096)].ravel())
        return cls(
            centroids,
            scales.astype(np.float32),
            _levels(scaled, 1 << bits),
            bool((abs(lengths - 1) < UNIT).all()),
            nearest.far,
        )

    @property
    def bits(self) -> int:
        """Of the code of a number."""
        return len(self.levels).bit_length() - 1

    @property
    def bytes(self) -> int:
        """Of a token's residual."""
        return self.centroids.shape[1] * self.bits // 8

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.centroids, self.far)

    @cached_property
    def half_centroids(self) -> np.ndarray:
        """uint16[K, width]: the bits of the centroids as float16, which `_maxsim.products` reads."""
        return np.ascontiguousarray(self.centroids, np.float16).view(np.uint16)

    @cached_property
    def table(self) -> np.ndarray:
        """float32[256, 8 / bits]: the levels that a byte names, its lowest bits first."""
        places = np.arange(0, 8, self.bits)
        return np.ascontiguousarray(self.levels[(np.arange(256)[:, None] >> places) & (len(self.levels) - 1)])

    def encoded(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(centroids uint16[n], residual codes uint8[n, width * bits / 8]) of vectors float[n, width]."""
        values = values.astype(np.float32, copy=False)
        codes = self._nearest(values)
        rest = (values - self.centroids[codes]) / np.where(self.scales > 0, self.scales, 1)
        borders = (self.levels[1:] + self.levels[:-1]) / 2
        numbers = np.searchsorted(borders, rest).astype(np.uint8)
        each = 8 // self.bits
        grouped = numbers.reshape(len(numbers), -1, each) << np.arange(0, 8, self.bits, dtype=np.uint8)
        return codes.astype(np.uint16), np.bitwise_or.reduce(grouped, axis=2)

    def decoded(self, codes: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """float32[n, width] of what `encoded` gave."""
        rest = self.table[residuals].reshape(len(codes), -1)
        values = self.centroids[codes] + self.scales * rest
        if self.unit:
            lengths = np.linalg.norm(values, axis=1, keepdims=True)
            values = values / np.where(lengths > 0, lengths, 1)
        return values

    def save(self, folder: Path) -> None:
        """Write its arrays into a folder."""
        for name in PARTS:
            write_array(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def open(cls, folder: Path, *, unit: bool, far: float) -> ResidualCodec:
        """Read what `save` wrote; OSError or ValueError where that fails."""
        return cls(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in PARTS), unit, far)


def check_width(width: int, bits: int) -> None:
    """DataError for vectors whose codes do not fill whole bytes."""
    if width * bits % 8:
        raise DataError(
            f"vectors of {width} numbers at {bits} bits do not fill whole bytes; set index.bits to 8"
        )


def _rest(
    sample: np.ndarray, centroids: np.ndarray, nearest: Nearest, told: Callable[[int], object]
) -> np.ndarray:
    """float32[n, width]: what the nearest centroids leave of vectors; `told` how many, block by block."""
    rest = np.empty_like(sample)
    for start in range(0, len(sample), BLOCK):
        block = sample[start : start + BLOCK]
        rest[start : start + BLOCK] = block - centroids[nearest(block)]
        told(len(block))
    return rest


def _levels(numbers: np.ndarray, count: int) -> np.ndarray:
    """float32[count], rising: where the mean square distance of sorted numbers to the nearest one is least (Lloyd's method)."""
    levels = np.quantile(numbers, (np.arange(count) + 0.5) / count)
    sums = np.concatenate([[0.0], np.cumsum(numbers, dtype=np.float64)])
    for _ in range(ROUNDS):
        ends = np.searchsorted(numbers, (levels[1:] + levels[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(numbers)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        levels = np.where(counts > 0, means, levels)
    return np.sort(levels).astype(np.float32)
