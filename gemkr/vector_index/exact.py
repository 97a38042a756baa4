"""Exact search: every document's inner product with the query. The twin that approximate search is measured by."""

from __future__ import annotations

import numpy as np

from gemkr.errors import DataError

BLOCK = 16_384
"""Documents scored at once: 24 MiB of float32 at width 384."""


class ExactIndex:
    """A `VectorIndex` that looks at every vector. Cost of a search: 2 * q * n * width floating-point operations.

    Vectors stay where they are (memory-mapped ones too) and are read in blocks as float32.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        """`vectors` float16 or float32[n, width]."""
        if vectors.ndim != 2:
            raise DataError(f"an index needs vectors [n, width], these have the shape {vectors.shape}")
        self.vectors = vectors

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.vectors.shape[1]

    def search(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[q, k], documents int64[q, k]) of the largest inner products with float32[q, width], best first.

        Ties go to the smaller document number. Only documents that `allowed` bool[n] marks count; where fewer than k do, the
        rest of a row has score -inf and document -1. DataError for vectors of another width, or that are not finite.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise DataError(
                f"the query vectors have the shape {vectors.shape}, the index holds vectors of {self.width} numbers; use the encoder "
                "that its documents were embedded with"
            )
        if not np.isfinite(vectors).all():
            raise DataError("a query vector holds a number that is not finite; check the encoder's weights")
        queries = np.ascontiguousarray(vectors, dtype=np.float32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        docs = np.full((len(queries), k), -1, np.int64)
        for start in range(0, len(self), BLOCK):
            block = queries @ self.vectors[start : start + BLOCK].astype(np.float32, copy=False).T
            if allowed is not None:
                block[:, ~allowed[start : start + BLOCK]] = -np.inf
            numbers = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
            scores, docs = _best(np.hstack([scores, block]), np.hstack([docs, numbers]), k)
        return scores, docs


def _best(scores: np.ndarray, docs: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
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
