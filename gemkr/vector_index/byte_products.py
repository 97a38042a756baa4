"""A query as vectors of bytes, which a processor with AVX512_VNNI multiplies 64 at once with what residual codes stand for.

Every query vector has a step of its own, as do the levels of codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gemkr.vector_index import _maxsim
from gemkr.vector_index.lookup_tables import ENTRIES
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_parts import Part

GROUP, COLUMNS, QUAD = 32, 32, 4
"""Query vectors, bytes of a residual and numbers that are worked on together."""
MOST, MOST_LEVEL, MOST_WEIGHT = 127, 254, (1 << 15) - 1
"""Of a query vector's number; of a code's, whose two halves are rounded each; of a weight."""


@dataclass(frozen=True)
class ByteProducts:
    """A product of vector v and a decoded token is about lows[v] + steps[v] * (sum of products of bytes + weights[v] * level of the
    token's centroid). A byte of a residual holds `planes` numbers: 4, 2 or 1.

    `vectors` int8[groups, planes * columns / 4, 32, 4]: plane after plane, columns being the bytes of a residual, filled up to a multiple
    of 32; `values` uint8[planes, 2, 16]: what the low half and the high half of a byte add to a plane's number; `weights`
    int16[groups * 32]; `steps` and `lows` float32[vectors that there are].
    """

    vectors: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    steps: np.ndarray
    lows: np.ndarray
    together: ClassVar[int] = GROUP // 2
    """As that of `LookupTables`: the vectors of a register."""

    @classmethod
    def of(cls, vectors: np.ndarray, codec: ResidualCodec, low: float, step: float) -> ByteProducts:
        """Of query vectors float32[v, width], whose products with centroids are `low` and levels of a `step` > 0. Their numbers are
        rounded to half a step, 1/127 of the largest one; levels of codes to 1/254 of their range. Sums stay below 2^31 for widths up to 65,536. 50 µs for 32 vectors."""
        values, level, least = _values(codec.table)
        scaled = vectors * codec.scales
        own = np.abs(scaled).max(axis=1, initial=0) / MOST
        least_step = max(step / (level * MOST_WEIGHT), np.finfo(np.float32).tiny)  # below it, digits are lost
        own = np.maximum(own, least_step).astype(np.float32)
        rounded = np.rint(scaled / own[:, None]).astype(np.int8)
        steps = own * level
        groups, planes = -(-len(vectors) // GROUP), len(values)
        columns = -(-codec.bytes // COLUMNS) * COLUMNS
        filled = np.zeros((groups * GROUP, planes, columns), np.int8)
        filled[: len(vectors), :, : codec.bytes] = rounded.reshape(
            len(vectors), codec.bytes, planes
        ).swapaxes(1, 2)
        weights = np.zeros(groups * GROUP, np.int16)
        weights[: len(vectors)] = np.rint(step / steps)
        return cls(
            np.ascontiguousarray(filled.reshape(groups, GROUP, -1, QUAD).swapaxes(1, 2)),
            values,
            weights,
            steps,
            np.float32(low) + np.float32(least) * own * rounded.sum(axis=1, dtype=np.int32),
        )

    def scores(self, levels: np.ndarray, part: Part, docs: np.ndarray, first: int, last: int) -> np.ndarray:
        """As `LookupTables.scores`."""
        low = float(self.lows[first:last].sum())
        return _maxsim.multiplied(
            levels, self.vectors, self.values, self.weights, self.steps, low, first, last, part.codes, part.residuals, part.offsets, docs
        )  # fmt: skip


def _values(table: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(values, step, least): a level of the `table` float32[256, planes] is about least + step * the sum of its halves' values. With one
    plane, what a half adds is its mean over the other half."""
    planes = table.shape[1]
    levels = table.reshape(ENTRIES, ENTRIES, planes)  # of a byte's high half, and its low one
    halves = np.zeros((planes, 2, ENTRIES), np.float32)
    if planes == 1:
        halves[0] = np.stack([levels[:, :, 0].mean(axis=0) - levels.mean(), levels[:, :, 0].mean(axis=1)])
    else:
        halves[: planes // 2, 0] = levels[0, :, : planes // 2].T
        halves[planes // 2 :, 1] = levels[:, 0, planes // 2 :].T
    if planes == 1:
        least = halves.min(axis=2, keepdims=True)
    else:
        least = np.zeros((planes, 2, 1), np.float32)
        least[: planes // 2, 0] = least[planes // 2 :, 1] = table.min()
    halves = halves - least
    level = float(halves.max(axis=2).sum(axis=1).max()) / MOST_LEVEL or 1.0
    return np.rint(halves / level).astype(np.uint8), level, float(least[0].sum())
