"""A query as look-up tables: what each half of a byte of a residual adds to the product with a query vector, in 8 bits.

After PQ Fast Scan (André, Kermarrec, Le Scouarnec, VLDB 2015), with one step for all tables of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gemkr.vector_index import _maxsim
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_parts import Part

TOGETHER, ENTRIES, ADDED = 2, 16, 8
"""Vectors whose tables lie together; values of half a byte; halves whose entries are added up in 8 bits."""
MOST = ((1 << 8) - 1 - ADDED / 2, (1 << 15) - 1)
"""Sums of ADDED entries before rounding, and of all after it."""


@dataclass(frozen=True)
class LookupTables:
    """A product of vector v and a decoded token is about lows[v] + steps[v] * (sum of entries + weights[v] / 256 * level of the token's
    centroid). `entries` uint8[vectors / 2, halves, 2, 16], `weights` uint16[vectors], filled up
    with zeros to multiples of 2 vectors and 8 halves; `steps` and `lows` float32[vectors that there are]."""

    entries: np.ndarray
    weights: np.ndarray
    steps: np.ndarray
    lows: np.ndarray
    together: ClassVar[int] = TOGETHER
    """Vectors that are worked on together: some of them, from a multiple of it on, can be asked for alone."""

    @classmethod
    def of(cls, vectors: np.ndarray, codec: ResidualCodec, low: float, step: float) -> LookupTables:
        """Of query vectors float32[v, width], whose products with centroids are `low` and levels of a `step` > 0. Entries are rounded to
        half a step, which is at least 1/251 of what eight of them can add up to."""
        table = codec.table.reshape(ENTRIES, ENTRIES, -1)  # of a byte's high half, and its low one
        halves = np.concatenate([table.mean(axis=0) - table.mean(axis=(0, 1)), table.mean(axis=1)])
        scaled = (vectors * codec.scales).reshape(len(vectors), codec.bytes, -1)
        added = (scaled @ halves.T).reshape(len(vectors), -1, ENTRIES)
        least = added.min(axis=2)
        added -= least[:, :, None]
        whole = np.zeros((-(-len(vectors) // TOGETHER) * TOGETHER, -(-added.shape[1] // ADDED) * ADDED, ENTRIES), np.float32)  # fmt: skip
        whole[: len(vectors), : added.shape[1]] = added
        ranges = whole.max(axis=2)
        together = ranges.reshape(len(whole), -1, ADDED).sum(axis=2).max(axis=1)
        most = MOST[1] - whole.shape[1] / 2  # rounding adds no more than a half to each
        steps = np.maximum.reduce([together / MOST[0], ranges.sum(axis=1) / most, np.full(len(whole), 255 * step / MOST[1])])  # fmt: skip
        entries = np.rint(whole / steps[:, None, None]).astype(np.uint8)
        entries = entries.reshape(-1, TOGETHER, *entries.shape[1:]).swapaxes(1, 2)
        return cls(
            np.ascontiguousarray(entries),
            np.rint(256 * step / steps).astype(np.uint16),
            steps[: len(vectors)].astype(np.float32),
            least.sum(axis=1) + np.float32(low),
        )

    def scores(self, levels: np.ndarray, part: Part, docs: np.ndarray, first: int, last: int) -> np.ndarray:
        """float32[m]: MaxSim of the vectors `first` to `last` of the query and the documents' decoded tokens, not brought to length 1.
        `levels` uint8[centroids, multiple of 32] are those of the query's products with centroids."""
        low = float(self.lows[first:last].sum())
        return _maxsim.scanned(
            levels, self.entries, self.weights, self.steps, low, first, last, part.codes, part.residuals, part.offsets, docs
        )  # fmt: skip
