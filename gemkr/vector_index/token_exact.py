"""Exact late interaction: MaxSim of every query and every document. The twin that a centroid index is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.exact import best_of
from gemkr.vector_index.live_tokens import LiveTokens, as_live
from gemkr.vector_index.maxsim import checked_queries

BLOCK = 8192
"""Documents scored before the best are kept."""


class ExactTokenIndex:
    """A `TokenVectorIndex` that looks at every token: 2 * query vectors * tokens * width floating-point operations a query.

    Values stay where they are (memory-mapped ones too). A document without a token is never found.
    """

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    def __init__(self, tokens: TokenVectors | LiveTokens) -> None:
        """`tokens`: values float16[sum, width]."""
        self.tokens = as_live(tokens)

    @classmethod
    def from_config(
        cls, config: Config, tokens: TokenVectors | LiveTokens, folder: str | Path | None = None
    ) -> ExactTokenIndex:
        """Over the token vectors; nothing is built."""
        return cls(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def search(
        self, queries: TokenVectors, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(scores float32[q, k], documents int64[q, k]), best first, ties to the smaller number.

        Only documents that `allowed` bool[n] marks count; where fewer than k do, the rest of a row has score -inf and document -1.
        DataError for queries that cannot be compared (`checked_queries`).
        """
        queries = checked_queries(queries, self.tokens.width)
        size = len(queries.offsets) - 1
        scores = np.full((size, k), -np.inf, np.float32)
        docs = np.full((size, k), -1, np.int64)
        numbers = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        for start in range(0, len(numbers), BLOCK):
            part = numbers[start : start + BLOCK]
            block = self.tokens.scores(queries, part)
            both = np.broadcast_to(part, block.shape)
            scores, docs = best_of(np.hstack([scores, block]), np.hstack([docs, both]), k)
        return scores, docs
