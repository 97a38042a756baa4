"""The tokens that the centroids of an index are learned from, and how many centroids there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gemkr.errors import DataError
from gemkr.interfaces import TokenVectors
from gemkr.progress import progress_bar
from gemkr.vector_index.token_codec import BLOCK, MOST_CENTROIDS

SAMPLE = 16
"""Tokens for each centroid that k-means learns from."""
LEAST_SAMPLE = 8


def list_count(lists: int | None, tokens: int) -> int:
    """The number of centroids for so many tokens; DataError for more than can be learned or named."""
    most = min(MOST_CENTROIDS, tokens // LEAST_SAMPLE)
    if most < 1:
        raise DataError(f"{tokens} tokens are too few for a centroid index; use index: exact")
    if lists is not None and lists > most:
        raise DataError(
            f"index.lists is {lists}, and {tokens} tokens allow for {most} ({LEAST_SAMPLE} a list); lower it"
        )
    return min(1 << int(np.log2(16 * tokens**0.5)), most) if lists is None else lists


def drawn_sample(parts: Sequence[TokenVectors], lists: int, *, progress: bool = False) -> np.ndarray:
    """float32[n, width]: tokens of all parts for so many centroids, in their order, drawn with a fixed seed."""
    firsts = np.cumsum([0, *(len(part.values) for part in parts)])
    tokens = int(firsts[-1])
    chosen = np.random.default_rng(0).choice(tokens, min(tokens, SAMPLE * lists), replace=False)
    chosen.sort()
    found = np.empty((len(chosen), parts[0].values.shape[1]), np.float32)
    bounds = pairwise(np.searchsorted(chosen, firsts).tolist())
    with progress_bar(total=len(chosen), desc="sample", unit=" tokens", disable=not progress) as bar:
        for part, first, (low, high) in zip(parts, firsts[:-1], bounds, strict=True):
            for start in range(low, high, BLOCK):
                rows = chosen[start : min(start + BLOCK, high)]
                found[start : start + len(rows)] = part.values[rows - first]
                bar.update(len(rows))
    return found
