"""Document vectors as they are kept: float32, float16, or int8 with one scale a vector; in memory or mapped from a file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gemkr.errors import DataError

DTYPES = {name: np.dtype(name) for name in ("float32", "float16", "int8")}
LARGEST = 127
"""Of int8, on both sides of 0."""


@dataclass(frozen=True)
class Vectors:
    """n vectors: `values` float32, float16 or int8[n, width]; int8 ones stand for `scales` (float32[n]) times their values.

    What is read of them is float32; only the rows asked for are converted.
    """

    values: np.ndarray
    scales: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise DataError(f"an index needs vectors [n, width], these have the shape {self.values.shape}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.values.shape[1]

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers as they are kept."""
        return self.values.dtype

    def block(self, start: int, stop: int) -> np.ndarray:
        """Vectors start to stop, float32[stop - start, width]; a view where they are float32 already."""
        return self._read(slice(start, stop))

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """The vectors of int64[m] numbers, float32[m, width]."""
        return self._read(numbers)

    def products(self, numbers: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """float32[m]: inner products of the vectors of int64[m] numbers with one float32[width]."""
        return inner_products(self.take(numbers), vector)

    def _read(self, rows: slice | np.ndarray) -> np.ndarray:
        values = self.values[rows].astype(np.float32, copy=False)
        return values if self.scales is None else values * self.scales[rows, None]


def inner_products(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """float32[m] of float32[m, width] with float32[width]; equal rows have equal ones, whichever rows are beside them, as products of
    whole matrices have not."""
    return (rows * vector).sum(axis=1)


def as_stored(vectors: np.ndarray, dtype: str) -> Vectors:
    """Vectors float[n, width] as they are kept under a name of `DTYPES`. DataError for numbers that are not finite there.

    An int8 number is off by at most half a scale, which is the largest number of its vector divided by 127.
    """
    if dtype == "int8":
        vectors = vectors.astype(np.float32, copy=False)
        scales = np.abs(vectors).max(axis=1, initial=0) / np.float32(LARGEST)
        _require_finite(scales, dtype)
        values = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None])
        return Vectors(values.astype(np.int8), scales)
    with np.errstate(over="ignore"):
        stored = vectors.astype(DTYPES[dtype], copy=False)
    _require_finite(stored, dtype)
    return Vectors(stored)


def _require_finite(numbers: np.ndarray, dtype: str) -> None:
    if not np.isfinite(numbers).all():
        most = f" ({np.finfo(dtype).max:g} is its largest)" if dtype == "float16" else ""
        raise DataError(
            f"a document vector holds a number that {dtype} cannot{most}; check the encoder's weights"
        )


def joined(parts: list[Vectors]) -> Vectors:
    """One set of vectors of the same kind after another."""
    scales = None if parts[0].scales is None else np.concatenate([part.scales for part in parts])
    return Vectors(np.concatenate([part.values for part in parts]), scales)
