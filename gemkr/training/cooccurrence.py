"""Token embeddings from counts: positive pointwise mutual information and a truncated singular value decomposition.

Seconds of arithmetic give a small model what hours of its pre-training on two cores would not: tokens that occur in
similar contexts get similar vectors (Levy, Goldberg and Dagan, "Improving distributional similarity with lessons learned
from word embeddings", TACL 2015). Knows no models; the embeddings are a starting point for them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gemkr.errors import ConfigError

SMOOTHING = 0.75
"""Power of the context counts: keeps rare contexts from dominating (section 3.1 of the paper)."""
ROWS = 1024
"""Of the matrix that are mirrored at a time."""
OVERSAMPLING, ITERATIONS = 16, 3
"""Of the randomized decomposition (Halko, Martinsson and Tropp, 2011)."""


def cooccurrence_embeddings(
    tokens: np.ndarray, offsets: np.ndarray, vocab_size: int, width: int, *, window: int, seed: int
) -> Tensor:
    """float32[vocab_size, width], every row of length 1; tokens that occur alone, or not at all, get random directions.

    Document i is `tokens[offsets[i]:offsets[i + 1]]`; two of its tokens at a distance d <= window count with weight 1/d,
    none of them when the window is 0.
    Cost: 4 * vocab_size^2 bytes (0.6 GB for 12,000 tokens, 4 GB for 32,000), and 20 s of one core for 17 million
    tokens. Raises ConfigError unless 0 < width < vocab_size.
    """
    if not 0 < width < vocab_size:
        raise ConfigError(
            f"embeddings of width {width} cannot come from the co-occurrences of {vocab_size} tokens; choose fewer than {vocab_size}"
        )
    matrix = _ppmi_(_count(tokens, offsets, vocab_size, window))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = min(width + OVERSAMPLING, vocab_size)
        left, strength, _ = torch.svd_lowrank(matrix, q=size, niter=ITERATIONS)
        found = left[:, :width] * strength[:width].clamp(min=0).sqrt()
        alone = matrix.sum(dim=1) == 0
        found = torch.where(alone[:, None], torch.randn(vocab_size, width), found)
    return found / found.norm(dim=1, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)


def _count(tokens: np.ndarray, offsets: np.ndarray, vocab_size: int, window: int) -> Tensor:
    """float32[V, V], symmetric: how often two tokens occur together inside a document, near pairs counting more."""
    counts = torch.zeros(vocab_size * vocab_size)
    flat = torch.from_numpy(tokens.astype(np.int64))
    document = torch.from_numpy(np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)))
    for distance in range(1, min(window, len(flat) - 1) + 1):
        together = document[:-distance] == document[distance:]
        pairs = (flat[:-distance] * vocab_size + flat[distance:])[together]
        counts.index_add_(0, pairs, torch.full((len(pairs),), 1 / distance))
    counts = counts.view(vocab_size, vocab_size)
    for start in range(0, vocab_size, ROWS):
        rows = slice(start, start + ROWS)
        both = counts[start:, rows] + counts[rows, start:].T
        counts[start:, rows], counts[rows, start:] = both, both.T
    return counts


def _ppmi_(counts: Tensor) -> Tensor:
    """max(0, log(P(i, j) / (P(i) P'(j)))) in place, P' being the smoothed distribution of contexts (Levy et al.)."""
    totals = counts.sum(dim=1).clamp(min=1)
    contexts = totals**SMOOTHING
    counts.div_(totals[:, None]).div_(contexts / contexts.sum())
    return counts.log_().clamp_(min=0)
