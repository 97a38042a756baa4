"""The confidence of answers: the minimum of its loss, its threshold, its file and what that refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.answering.confidence import (
    RIDGE,
    cross_fitted,
    fit,
    read_calibration,
    with_confidence,
    write_calibration,
)
from gemkr.errors import ConfigError, DataError
from gemkr.types import Answer


def material(count: int, seed: int = 0) -> tuple[list[dict[str, float]], np.ndarray]:
    rng = np.random.default_rng(seed)
    sure, noise = rng.normal(size=count), rng.normal(size=count)
    right = rng.random(count) < 1 / (1 + np.exp(-2 * sure - 0.5))
    return [{"log_prob": float(a), "same": 3.0, "noise": float(b)} for a, b in zip(sure, noise)], right * 0.6


@given(st.integers(0, 1000), st.integers(25, 60))
def test_the_fit_is_a_minimum_of_the_penalised_cross_entropy(seed: int, count: int) -> None:
    features, accuracy = material(count, seed)
    if not 0 < accuracy.mean() < 1:
        return
    found = fit(features, accuracy)
    table = np.array([[row[name] for name in found.names] for row in features])
    scaled = (table - found.means) / np.array(found.scales)

    def loss(weights: np.ndarray, bias: float) -> float:
        score = scaled @ weights + bias
        return float((np.logaddexp(0, score) - accuracy * score).sum() + RIDGE * (weights**2).sum() / 2)

    best = loss(np.array(found.weights), found.bias)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        near = np.array(found.weights) + rng.normal(scale=0.05, size=3)
        assert loss(near, found.bias + rng.normal(scale=0.05)) >= best - 1e-9


def test_confidence_orders_and_is_calibrated() -> None:
    features, accuracy = material(2000)
    found = fit(features, accuracy)
    assert found.weights[0] > 5 * abs(found.weights[2])
    assert found.weights[1] == pytest.approx(0)
    confidence = cross_fitted(features, accuracy)
    surest = confidence > np.quantile(confidence, 0.8)
    assert confidence[surest].mean() == pytest.approx(accuracy[surest].mean(), abs=0.08)
    assert accuracy[surest].mean() > 1.3 * accuracy.mean()


@pytest.mark.parametrize("coverage", [0.0, 0.3, 0.5, 1.0])
def test_the_threshold_keeps_the_most_confident_share(coverage: float) -> None:
    features, accuracy = material(200)
    found = fit(features, accuracy, coverage)
    kept = np.mean([found.confidence(row) >= found.threshold for row in features])
    assert kept == pytest.approx(coverage, abs=0.011)
    answer = Answer("1", "fox", None, -1.0, features=features[0])
    rated = with_confidence(answer, found)
    assert rated.confidence == found.confidence(features[0])
    assert rated.abstains == (rated.confidence < found.threshold)


def test_too_little_to_fit_on() -> None:
    features, accuracy = material(19)
    with pytest.raises(DataError, match=r"19 answers .* cannot calibrate a reader; give at least 20"):
        fit(features, accuracy)
    with pytest.raises(DataError, match=r"mean accuracy of 0\.000"):
        fit(material(40)[0], np.zeros(40))


def test_a_file_belongs_to_one_reader(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    found = fit(*material(40))
    write_calibration(path, "a" * 64, 5, {"bm25": found})
    assert read_calibration(path, "a" * 64, 5) == {"bm25": found}
    with pytest.raises(
        ConfigError, match=r"fitted to the reader aaaaaaaaaaaa with 5 passages, this one is b{12} with 5"
    ):
        read_calibration(path, "b" * 64, 5)
    with pytest.raises(ConfigError, match="with 3; fit it again"):
        read_calibration(path, "a" * 64, 3)
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format": 9}))
    with pytest.raises(DataError, match="has format 9, this program reads 1"):
        read_calibration(path, "a" * 64, 5)
    path.write_text(json.dumps({**values, "reader": 5}))
    with pytest.raises(ConfigError, match="was fitted to the reader 5 with"):
        read_calibration(path, "a" * 64, 5)
    path.write_text("{}")
    with pytest.raises(DataError, match="is no calibration"):
        read_calibration(path, "a" * 64, 5)
    with pytest.raises(ConfigError, match=r"cannot be read .*; make it with gemkr answer"):
        read_calibration(tmp_path / "none.json", "a" * 64, 5)
