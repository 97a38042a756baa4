"""Vectors of several folders as one sequence, without those of deleted documents. Nothing is copied but what is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.vector_index.vectors import Vectors, inner_products


class LiveVectors:
    """What `Vectors` is to a search: rows float32[n, width], numbered over the live ones."""

    def __init__(self, parts: Sequence[tuple[Vectors, np.ndarray]], width: int) -> None:
        """`parts`: vectors, and int64[m], ascending: which of them are left out."""
        self._parts = [vectors for vectors, _ in parts]
        self._rows = [
            np.delete(np.arange(len(vectors)), gone) if len(gone) else None for vectors, gone in parts
        ]
        self._first = np.cumsum([0, *(len(v) - len(gone) for v, gone in parts)], dtype=np.int64)
        self.width = width

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers as they are kept."""
        return self._parts[0].dtype if self._parts else np.dtype(np.float32)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Vectors start to stop, or to the end, float32[n, width]."""
        found = [np.zeros((0, self.width), np.float32)]
        for first, end, part, rows in zip(
            self._first[:-1].tolist(), self._first[1:].tolist(), self._parts, self._rows, strict=True
        ):
            low, high = max(start, first) - first, min(stop, end) - first
            if low < high:
                found.append(part.block(low, high) if rows is None else part.take(rows[low:high]))
        return found[1] if len(found) == 2 else np.concatenate(found)

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """The vectors of int64[m] numbers, float32[m, width]."""
        out = np.empty((len(numbers), self.width), np.float32)
        homes = np.searchsorted(self._first, numbers, side="right") - 1
        for home in np.unique(homes).tolist():
            here = homes == home
            places, rows = numbers[here] - self._first[home], self._rows[home]
            out[here] = self._parts[home].take(places if rows is None else rows[places])
        return out

    def products(self, numbers: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """float32[m]: inner products of the vectors of int64[m] numbers with one float32[width]."""
        return inner_products(self.take(numbers), vector)
