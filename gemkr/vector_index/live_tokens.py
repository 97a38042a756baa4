"""Token vectors of several folders as one sequence of documents, without deleted ones. Nothing is copied but what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.maxsim import scores_of


class LiveTokens:
    """Documents with float16 vectors [tokens, width], numbered over the live ones."""

    def __init__(self, parts: Sequence[tuple[TokenVectors, np.ndarray]], width: int) -> None:
        """`parts`: vectors, and int64[m], ascending: which of their documents are left out."""
        self.parts = [tokens for tokens, _ in parts]
        self.rows = [np.delete(np.arange(len(tokens.offsets) - 1), gone) for tokens, gone in parts]
        self.first = np.cumsum([0, *map(len, self.rows)], dtype=np.int64)
        self.width = width

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def lengths(self) -> np.ndarray:
        """int64[n]: how many tokens each document has."""
        found = [np.diff(part.offsets)[rows] for part, rows in zip(self.parts, self.rows, strict=True)]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def scores(self, queries: TokenVectors, numbers: np.ndarray) -> np.ndarray:
        """float32[q, m]: `scores_of` for the documents int64[m], ascending."""
        bounds = pairwise(np.searchsorted(numbers, self.first).tolist())
        found = [
            scores_of(queries, part, rows[numbers[start:stop] - first])
            for part, rows, first, (start, stop) in zip(
                self.parts, self.rows, self.first[:-1], bounds, strict=True
            )
        ]
        return np.hstack([np.empty((len(queries.offsets) - 1, 0), np.float32), *found])


def as_live(tokens: TokenVectors | LiveTokens) -> LiveTokens:
    """Vectors of documents that are all alive."""
    if isinstance(tokens, LiveTokens):
        return tokens
    return LiveTokens([(tokens, np.zeros(0, np.int64))], tokens.values.shape[1])
