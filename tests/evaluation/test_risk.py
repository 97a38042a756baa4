"""Risk against coverage, against all orders of equal confidence one by one."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.evaluation.risk import calibration_error, risk_coverage

PAIRS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([0.0, 0.6, 1.0])), min_size=1, max_size=6
)


@given(PAIRS)
def test_the_curve_is_the_mean_over_all_orders(pairs: list[tuple[float, float]]) -> None:
    confidence, accuracy = map(np.array, zip(*pairs))
    sorted_orders = [
        order for order in permutations(range(len(pairs))) if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    risks = [1 - np.cumsum(accuracy[list(order)]) / np.arange(1, len(pairs) + 1) for order in sorted_orders]
    curve = risk_coverage(confidence, accuracy)
    assert np.allclose(curve.risk, np.mean(risks, axis=0))
    assert curve.aurc == pytest.approx(np.mean(risks))
    assert curve.best <= curve.aurc + 1e-12
    assert curve.random == pytest.approx(1 - accuracy.mean())


def test_figures_of_a_curve_by_hand() -> None:
    curve = risk_coverage(np.array([0.9, 0.2, 0.8, 0.1]), np.array([1.0, 0.0, 0.0, 1.0]))
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk.tolist() == pytest.approx([0, 1 / 2, 2 / 3, 1 / 2])
    assert curve.best == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert [curve.at(0.5), curve.at(0.0)] == [0.5, 0.0]
    with pytest.raises(ValueError, match="one confidence per accuracy"):
        risk_coverage(np.zeros(2), np.zeros(3))


def test_calibration_error_by_hand() -> None:
    confidence, accuracy = np.array([0.2, 0.4, 0.9, 0.7]), np.array([0.0, 1.0, 1.0, 1.0])
    assert calibration_error(confidence, accuracy, bins=2) == pytest.approx((0.2 * 2 + 0.2 * 2) / 4)
    assert calibration_error(accuracy, accuracy) == 0.0
