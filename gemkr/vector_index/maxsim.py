"""MaxSim of queries and documents, on several threads: for each query vector the best inner product with a document's token
vectors, summed over the query's vectors.

The kernels are `csrc/maxsim.hpp`; they read float16 vectors as they are stored, and make nothing larger than a block of tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from gemkr.errors import DataError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index import _maxsim

CHUNK = 512
"""Documents that a thread scores before it takes the next ones."""
T = TypeVar("T")


def thread_count() -> int:
    """How many threads scoring may use: OMP_NUM_THREADS, or else every core of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))


def spread(work: Callable[[T], np.ndarray], parts: list[T]) -> list[np.ndarray]:
    """`work` of every part, in order, on as many threads as there may be."""
    if len(parts) < 2 or thread_count() < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(thread_count()) as pool:
        return list(pool.map(work, parts))


def scores_of(queries: TokenVectors, tokens: TokenVectors, docs: np.ndarray) -> np.ndarray:
    """float32[q, m]: MaxSim of every query and the documents of `tokens` (float16) with the numbers int64[m]; -inf for a document
    without a token."""
    bits, vectors = tokens.values.view(np.uint16), float_rows(queries)
    parts = [docs[start : start + CHUNK] for start in range(0, len(docs), CHUNK)]
    found = spread(
        lambda part: _maxsim.stored(bits, tokens.offsets, part, vectors, queries.offsets),
        [np.ascontiguousarray(part, np.int64) for part in parts],
    )
    return np.hstack(found) if found else np.empty((len(queries.offsets) - 1, 0), np.float32)


def float_rows(queries: TokenVectors) -> np.ndarray:
    """A query's vectors as contiguous float32."""
    return np.ascontiguousarray(queries.values, np.float32)


def checked_queries(queries: TokenVectors, width: int) -> TokenVectors:
    """Query vectors as float32; DataError for another width, numbers that are not finite, and a query without a vector."""
    if queries.values.ndim != 2 or queries.values.shape[1] != width:
        raise DataError(
            f"the query vectors have the shape {queries.values.shape}, the documents' have {width} numbers; use the encoder that the "
            "documents were embedded with"
        )
    if not np.isfinite(queries.values).all():
        raise DataError("a query vector holds a number that is not finite; check the encoder's weights")
    if (np.diff(queries.offsets) == 0).any():
        raise DataError(
            "a query has no vector left to score; give it a question or a picture that the encoder reads"
        )
    return TokenVectors(float_rows(queries), np.ascontiguousarray(queries.offsets, np.int64))


def picked(tokens: TokenVectors, numbers: np.ndarray) -> TokenVectors:
    """The texts with the numbers int64[m], copied out, in that order."""
    lengths = np.diff(tokens.offsets)[numbers]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    rows = np.repeat(tokens.offsets[numbers] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return TokenVectors(tokens.values[rows], offsets)


def joined_tokens(parts: list[TokenVectors], width: int) -> TokenVectors:
    """Texts one after another."""
    lengths = [np.diff(part.offsets) for part in parts]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([[], *lengths]))]).astype(np.int64)
    values = [part.values for part in parts]
    return TokenVectors(np.concatenate(values) if values else np.empty((0, width), np.float16), offsets)
