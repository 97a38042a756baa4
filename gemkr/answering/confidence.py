"""How likely an answer is right: logistic regression over a handful of features, and the threshold below which to abstain.

Fitted on questions that the reader did not learn from. Needs numpy alone; targets may be soft (an accuracy in [0, 1]).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import ConfigError, DataError
from gemkr.files import write_atomically
from gemkr.types import Answer

FORMAT = 1
RIDGE = 1.0
"""Of the weights, in units of one question; the bias is free."""
FEWEST = 20
"""Questions to fit on."""
STEPS, CLOSE = 100, 1e-10


@dataclass(frozen=True)
class Calibration:
    """P(right) = sigmoid(bias + weights · (features - means) / scales); answers below `threshold` are not given.

    `questions` is how many it was fitted on.
    """

    names: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float
    questions: int

    def confidence(self, features: Mapping[str, float]) -> float:
        """KeyError for features that lack one it was fitted with."""
        return float(self._of(_table([features], self.names))[0])

    def _of(self, table: np.ndarray) -> np.ndarray:
        scaled = (table - np.array(self.means)) / np.array(self.scales)
        return _sigmoid(scaled @ np.array(self.weights) + self.bias)


def fit(features: Sequence[Mapping[str, float]], accuracy: np.ndarray, coverage: float = 0.5) -> Calibration:
    """Fit on answers with these features and accuracies; the threshold keeps the most confident share `coverage` of them.

    Raises DataError for fewer than 20 answers, or when all are right or all wrong. Newton's steps on the penalised
    likelihood, which is strictly concave: a few milliseconds for thousands.
    """
    accuracy = np.asarray(accuracy, np.float64)
    if len(accuracy) < FEWEST or not 0 < accuracy.mean() < 1:
        raise DataError(
            f"{len(accuracy)} answers with a mean accuracy of {accuracy.mean() if len(accuracy) else 0:.3f} cannot calibrate a "
            f"reader; give at least {FEWEST} questions, some of them answered right and some wrong"
        )
    return _fitted(features, accuracy, coverage)


def _fitted(features: Sequence[Mapping[str, float]], accuracy: np.ndarray, coverage: float) -> Calibration:
    names = tuple(features[0])
    table = _table(features, names)
    means, scales = table.mean(axis=0), table.std(axis=0)
    scales = np.where(scales > 1e-9, scales, 1.0)
    solution = _newton(np.c_[(table - means) / scales, np.ones(len(table))], accuracy)
    fitted = Calibration(
        names, *(tuple(map(float, x)) for x in (means, scales, solution[:-1])), float(solution[-1]), 0.0, len(table)
    )  # fmt: skip
    threshold = float(np.quantile(fitted._of(table), 1 - coverage, method="lower"))
    return Calibration(**{**asdict(fitted), "threshold": threshold})


def cross_fitted(features: Sequence[Mapping[str, float]], accuracy: np.ndarray, folds: int = 5) -> np.ndarray:
    """float64[n]: the confidence of each answer under a fit to the other folds, for honest figures of the fit."""
    accuracy = np.asarray(accuracy, np.float64)
    confidence = np.empty(len(accuracy))
    fold = np.arange(len(accuracy)) % folds
    for number in range(folds):
        fold_rows = np.flatnonzero(fold == number)
        rest = np.flatnonzero(fold != number)
        fitted = _fitted([features[i] for i in rest], accuracy[rest], 0.5)
        confidence[fold_rows] = [fitted.confidence(features[i]) for i in fold_rows]
    return confidence


def with_confidence(answer: Answer, calibration: Calibration) -> Answer:
    """The answer with its confidence, and whether to abstain."""

    confidence = calibration.confidence(answer.features)
    return replace(answer, confidence=confidence, abstains=confidence < calibration.threshold)


def write_calibration(path: str | Path, reader: str, depth: int, fitted: Mapping[str, Calibration]) -> None:
    """One calibration for each way of getting passages, by name; `reader` is the fingerprint of the reader."""
    values = {
        "format": FORMAT,
        "reader": reader,
        "depth": depth,
        "of": {name: asdict(calibration) for name, calibration in fitted.items()},
    }
    write_atomically(path, json.dumps(values, indent=1) + "\n")


def read_calibration(path: str | Path, reader: str, depth: int) -> dict[str, Calibration]:
    """The calibrations of a file, by name; ConfigError unless it was fitted to this reader at this depth, DataError for a
    file that is none."""
    try:
        values: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        version, theirs, read = values["format"], str(values["reader"]), values["depth"]
        fitted = {name: _from(part) for name, part in values["of"].items()}
    except OSError as error:
        raise ConfigError(
            f"the calibration {path} cannot be read ({error.strerror}); make it with gemkr answer CONFIG --calibrate {path}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no calibration ({error!r}); make one with gemkr answer CONFIG --calibrate"
        ) from error
    if version != FORMAT:
        raise DataError(
            f"the calibration {path} has format {version}, this program reads {FORMAT}; fit it again"
        )
    if (theirs, read) != (reader, depth):
        raise ConfigError(
            f"the calibration {path} was fitted to the reader {theirs[:12]} with {read} passages, this one is {reader[:12]} with "
            f"{depth}; fit it again with gemkr answer CONFIG --calibrate {path}"
        )
    return fitted


def _from(part: dict[str, Any]) -> Calibration:
    lists = {key: tuple(part[key]) for key in ("names", "means", "scales", "weights")}
    return Calibration(**{**part, **lists})


def _table(features: Sequence[Mapping[str, float]], names: Sequence[str]) -> np.ndarray:
    return np.array([[row[name] for name in names] for row in features], np.float64)


def _newton(design: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The minimum of the cross entropy plus RIDGE / 2 times the squared weights; the last column is the bias."""
    penalty = np.full(design.shape[1], RIDGE)
    penalty[-1] = 0.0

    def loss(weights: np.ndarray) -> float:
        score = design @ weights
        return float((np.logaddexp(0, score) - target * score).sum() + (penalty * weights**2).sum() / 2)

    weights = np.zeros(design.shape[1])
    for _ in range(STEPS):
        chance = _sigmoid(design @ weights)
        slope = design.T @ (chance - target) + penalty * weights
        if np.abs(slope).max() < CLOSE:
            break
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step, size = np.linalg.solve(curve, slope), 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-6:
            size /= 2
        weights = weights - size * step
    return weights


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(values / 2))
