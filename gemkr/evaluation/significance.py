"""Confidence intervals of means, and tests of the difference of two runs: seeded resampling over queries, numpy alone.

Knows nothing of metrics: per-query values in, intervals and p values out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK_VALUES = 1 << 21


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two runs on the same queries: mean(b) - mean(a), its bootstrap 95 % interval, and a two-sided p value."""

    difference: float
    low: float
    high: float
    p_value: float
    better: int
    worse: int
    queries: int


def bootstrap_interval(
    values: np.ndarray, *, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of float64[Q] values; one value gives (v, v)."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be a non-empty vector, they have the shape {values.shape}")
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for start, stop in _chunks(samples, len(values)):
        drawn = rng.integers(0, len(values), size=(stop - start, len(values)), dtype=np.int32)
        means[start:stop] = values[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_test(a: np.ndarray, b: np.ndarray, *, samples: int = 10_000, seed: int = 0) -> PairedTest:
    """Compare float64[Q] values of two runs, query by query.

    The p value is that of the paired randomization test (Fisher; each query's two values swap places with
    probability 1/2), with the observed labelling counted in, so it is never 0. Cost: O(samples × Q), a second for
    2,500 queries.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"the runs need one value per query each, they have {a.shape} and {b.shape}")
    differences = b - a
    moved = differences[differences != 0]
    observed = abs(moved.sum())
    rng = np.random.default_rng(seed)
    extreme = 0
    for start, stop in _chunks(samples, max(len(moved), 1)):
        signs = rng.integers(0, 2, size=(stop - start, len(moved)), dtype=np.int8)
        sums = np.abs((2.0 * signs - 1.0) @ moved)
        extreme += int((sums >= observed - 1e-9).sum())
    low, high = bootstrap_interval(differences, seed=seed)
    return PairedTest(
        difference=float(differences.mean()),
        low=low,
        high=high,
        p_value=(extreme + 1) / (samples + 1),
        better=int((differences > 0).sum()),
        worse=int((differences < 0).sum()),
        queries=len(a),
    )


def _chunks(samples: int, width: int) -> list[tuple[int, int]]:
    """[start, stop) blocks of samples whose tables stay at about 2 million values."""
    size = max(1, CHUNK_VALUES // width)
    return [(start, min(start + size, samples)) for start in range(0, samples, size)]
