"""MaxSim one query vector and one document at a time, and ragged token vectors to try it on."""

from __future__ import annotations

import numpy as np

from gemkr.interfaces import TokenVectors


def drawn(
    random: np.random.Generator, lengths: list[int], width: int, dtype: type = np.float16
) -> TokenVectors:
    """Random vectors of length 1, so many for each text."""
    values = random.standard_normal((sum(lengths), width))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return TokenVectors(values.astype(dtype), np.cumsum([0, *lengths], dtype=np.int64))


def maxsim(queries: TokenVectors, tokens: TokenVectors) -> np.ndarray:
    """float64[q, n]; -inf for a document without a token."""
    found = np.full((len(queries.offsets) - 1, len(tokens.offsets) - 1), -np.inf)
    for i in range(len(found)):
        for j in range(found.shape[1]):
            document = tokens.values[tokens.offsets[j] : tokens.offsets[j + 1]].astype(float)
            if len(document):
                rows = queries.values[queries.offsets[i] : queries.offsets[i + 1]].astype(float)
                found[i, j] = sum(max(float(row @ token) for token in document) for row in rows)
    return found


def clustered(
    random: np.random.Generator, documents: int, width: int = 16, noise: float = 0.4
) -> TokenVectors:
    """Documents of 5 to 20 tokens around 40 centres; the first has none."""
    centres = drawn(random, [1] * 40, width, np.float64).values
    lengths = [0, *random.integers(5, 20, documents - 1).tolist()]
    values = centres[random.integers(0, 40, sum(lengths))]
    values = values + noise * random.standard_normal(values.shape) / width**0.5
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return TokenVectors(values.astype(np.float16), np.cumsum([0, *lengths]))
