"""What abstaining is worth: the risk of the answers that are given, the most confident first. numpy alone.

Risk is 1 - accuracy. Answers of equal confidence come in no order, so the figures are means over all orders of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RiskCoverage:
    """`risk[i]`, float64[n]: the risk of the i + 1 most confident answers, which are a share `coverage[i]` of all.

    `aurc` is the mean of `risk`, the area under the curve; `best` what an order by accuracy itself would have, `random`
    the risk of all answers.
    """

    coverage: np.ndarray
    risk: np.ndarray
    aurc: float
    best: float

    @property
    def random(self) -> float:
        return float(self.risk[-1])

    def at(self, coverage: float) -> float:
        """The risk of the most confident share `coverage` of the answers, at least one."""
        return float(self.risk[max(round(coverage * len(self.risk)), 1) - 1])


def risk_coverage(confidence: np.ndarray, accuracy: np.ndarray) -> RiskCoverage:
    """The curve of answers with `confidence` float[n] and `accuracy` float[n] in [0, 1]; n > 0. O(n log n)."""
    confidence, accuracy = np.asarray(confidence, np.float64), np.asarray(accuracy, np.float64)
    if confidence.shape != accuracy.shape or confidence.ndim != 1 or not len(accuracy):
        raise ValueError(
            f"one confidence per accuracy is needed, they have {confidence.shape} and {accuracy.shape}"
        )
    risk = _risks(confidence, accuracy)
    kept = np.arange(1, len(risk) + 1)
    return RiskCoverage(kept / len(risk), risk, float(risk.mean()), float(_risks(accuracy, accuracy).mean()))


def _risks(confidence: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    order = np.argsort(-confidence, kind="stable")
    _, group, sizes = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=accuracy[order]) / sizes
    return 1 - np.cumsum(means[group]) / np.arange(1, len(order) + 1)


def calibration_error(confidence: np.ndarray, accuracy: np.ndarray, bins: int = 10) -> float:
    """The mean distance of confidence and accuracy within `bins` groups of equally many answers (expected calibration
    error with equal-mass bins)."""
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    gaps = [abs(confidence[part].mean() - accuracy[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(order))
