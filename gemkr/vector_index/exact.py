"""Exact search: every document's inner product with the query. The twin that approximate search is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.errors import DataError
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.vectors import Vectors

BLOCK = 16_384
"""Documents scored at once: 24 MiB of float32 at width 384."""
FEW = 8
"""Of a block of which less than one in so many documents is allowed, the allowed ones alone are read."""
SPARE = 64
"""Documents beside the best k that are scored again: products of whole matrices are rounded by where a document stands in them."""


class ExactIndex:
    """A `VectorIndex` that looks at every vector, or at few allowed ones. Cost of a search: 2 * q * n * width floating-point operations.

    Vectors stay where they are (memory-mapped ones too) and are read in blocks as float32; of a block with few allowed documents these
    alone.
    """

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, vectors: Vectors | LiveVectors | np.ndarray) -> None:
        """`vectors`, or an array float16 or float32[n, width]."""
        self.vectors = Vectors(vectors) if isinstance(vectors, np.ndarray) else vectors

    @classmethod
    def from_config(
        cls, config: Config, vectors: Vectors | LiveVectors, folder: str | Path | None = None
    ) -> ExactIndex:
        """Over the vectors; nothing is built, so nothing of it lies in their folder."""
        return cls(vectors)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.vectors.width

    def search(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[q, k], documents int64[q, k]) of the largest inner products with float32[q, width], best first.

        Ties go to the smaller document number. Only documents that `allowed` bool[n] marks count; where fewer than k do, the
        rest of a row has score -inf and document -1. DataError for vectors of another width, or that are not finite.
        """
        queries, most = checked_queries(vectors, self.width), k + SPARE
        scores = np.full((len(queries), most), -np.inf, np.float32)
        docs = np.full((len(queries), most), -1, np.int64)
        for start in range(0, len(self), BLOCK):
            mask = None if allowed is None else allowed[start : start + BLOCK]
            if mask is not None and not mask.any():
                continue
            numbers, block = self._products(queries, start, mask)
            numbers = np.broadcast_to(numbers, block.shape)
            scores, docs = best_of(np.hstack([scores, block]), np.hstack([docs, numbers]), most)
        return rescored(self.vectors, queries, docs, k)

    def _products(
        self, queries: np.ndarray, start: int, mask: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(numbers int64[m], inner products float32[q, m]) of a block's documents, -inf for those that `mask` does not mark."""
        if mask is not None and FEW * np.count_nonzero(mask) < len(mask):
            numbers = start + np.flatnonzero(mask)
            return numbers, queries @ self.vectors.take(numbers).T
        block = queries @ self.vectors.block(start, start + BLOCK).T
        if mask is not None:
            block[:, ~mask] = -np.inf
        return np.arange(start, start + block.shape[1]), block


def rescored(
    vectors: Vectors | LiveVectors, queries: np.ndarray, docs: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best k of the documents int64[q, m] (-1 for none) of queries float32[q, width], in the order of `search`. Equal vectors have
    equal scores, whichever documents and queries are beside them."""
    width = max(k, docs.shape[1])
    scores, found = (
        np.full((len(docs), width), -np.inf, np.float32),
        np.full((len(docs), width), -1, np.int64),
    )
    for row, (query, numbers) in enumerate(zip(queries, docs, strict=True)):
        numbers = np.sort(numbers[numbers >= 0])
        found[row, : len(numbers)] = numbers
        scores[row, : len(numbers)] = vectors.products(numbers, query)
    return best_of(scores, found, k)


def checked_queries(vectors: np.ndarray, width: int) -> np.ndarray:
    """Query vectors as contiguous float32[q, width]; DataError for another width, or numbers that are not finite."""
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise DataError(
            f"the query vectors have the shape {vectors.shape}, the index holds vectors of {width} numbers; use the encoder "
            "that its documents were embedded with"
        )
    if not np.isfinite(vectors).all():
        raise DataError("a query vector holds a number that is not finite; check the encoder's weights")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def best_of(scores: np.ndarray, docs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best k of each row of scores float32[q, n] and documents int64[q, n], n >= k, in the order of `search`."""
    best = np.full((len(scores), k), -np.inf, np.float32)
    found = np.full((len(scores), k), -1, np.int64)
    if k == 0:
        return best, found
    least = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k, None]
    rows, columns = np.nonzero((scores >= least) & (scores > -np.inf))
    kept, numbers = scores[rows, columns], docs[rows, columns]
    order = np.lexsort((numbers, -kept, rows))
    rows = rows[order]
    places = np.arange(len(rows)) - np.searchsorted(rows, rows)
    order, rows, places = (part[places < k] for part in (order, rows, places))
    best[rows, places], found[rows, places] = kept[order], numbers[order]
    return best, found
