"""The simulation behind the decision how questions are put together."""

from __future__ import annotations

import pytest

from benchmarks.bench_joining import SIZES, Costs, simulate


def test_where_a_batch_costs_as_much_as_one_question_clients_in_step_share_each_batch() -> None:
    costs = Costs([0.01] * len(SIZES), [0.01] * len(SIZES), 4)
    alone, together = (simulate(costs, "return", clients=n) for n in (1, 8))
    assert alone.seconds == pytest.approx(0.053, abs=1e-3)
    assert together.seconds == pytest.approx(alone.seconds, abs=2e-3)
    assert together.rate == pytest.approx(8 * alone.rate, rel=0.05)
    assert simulate(costs, "window", clients=8).together < 5 < simulate(costs, "return", clients=8).together


def test_where_questions_cost_as_much_together_nothing_is_won() -> None:
    costs = Costs([0.01 * n for n in SIZES], [0.01 * n for n in SIZES], 4)
    for policy in ("window", "return", "join"):
        assert simulate(costs, policy, clients=32).rate == pytest.approx(20, rel=0.05)


def test_a_question_that_comes_alone_is_answered_alone() -> None:
    costs = Costs([0.01] * len(SIZES), [0.01] * len(SIZES), 4)
    found = simulate(costs, "join", rate=0.5)
    assert found.seconds == pytest.approx(0.05, abs=5e-3)
    assert found.together == pytest.approx(1, abs=0.1)
