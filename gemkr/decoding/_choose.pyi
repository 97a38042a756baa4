"""Typed contract of the extension."""

import numpy as np
from numpy.typing import NDArray

def top_k(
    logits: NDArray[np.float32],
    norm: NDArray[np.float32],
    indptr: NDArray[np.int64] | None,
    tokens: NDArray[np.int64],
    k: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores float32[n, k] (logits less norm), best first, and their tokens int64[n, k].

    logits [n, V], norm [n]; row i may choose among `tokens[indptr[i]:indptr[i + 1]]`, or among all `tokens` (each once)
    where indptr is None. NaN goes first, ties to the lower token; missing candidates and -inf become (-inf, 0). Other dtypes and
    strides raise TypeError, sizes that do not fit and tokens outside [0, V) ValueError. Releases the GIL; a few ns per
    allowed token.
    """
