"""The learning rate over the steps, the order of the clues, and the seeds of the steps."""

from __future__ import annotations

import typing
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import get_linear_schedule_with_warmup

from gemkr.config.ranges import Seed
from gemkr.errors import ConfigError
from gemkr.training.loop.config import OptimizerConfig
from gemkr.training.loop.order import BatchOrder
from gemkr.training.loop.schedule import WarmupCosine
from gemkr.training.loop.step import _seed


def test_schedule_values() -> None:
    schedule = WarmupCosine(lr=6e-5, warmup_lr=1e-6, min_lr=1e-5, warmup_steps=200, total_steps=1000)
    assert schedule.at(0) == 1e-6
    assert schedule.at(100) == pytest.approx((1e-6 + 6e-5) / 2)
    assert schedule.at(200) == 6e-5
    assert schedule.at(999) == pytest.approx(1e-5)
    middle = 200 + 799 / 2
    assert schedule.at(middle) == pytest.approx((6e-5 + 1e-5) / 2)
    rates = [schedule.at(step) for step in range(200, 1000)]
    assert rates == sorted(rates, reverse=True)


def test_a_decay_by_a_line() -> None:
    """As the library's linear schedule, whose last step has a whole step's share left where ours takes the floor."""
    optimizer = OptimizerConfig(lr=2e-5, warmup_lr=0.0, min_lr=0.0, warmup_steps=200, decay="linear")
    schedule = WarmupCosine.of(optimizer, 2000)
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = get_linear_schedule_with_warmup(torch.optim.SGD([weight], 2e-5), 200, 1999)
    for step in range(2000):
        assert schedule.at(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        theirs.optimizer.step()
        theirs.step()
    with pytest.raises(ConfigError, match=r"optimizer.decay is 'steep'; use cosine or linear"):
        WarmupCosine.of(replace(optimizer, decay="steep"), 2000)


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 5), (5, 5), (5, 6), (9, 4)])
def test_short_schedules_stay_in_range(warmup: int, total: int) -> None:
    schedule = WarmupCosine(lr=1e-3, warmup_lr=1e-6, min_lr=1e-5, warmup_steps=warmup, total_steps=total)
    assert all(1e-6 <= schedule.at(step) <= 1e-3 for step in range(total))


def test_order_is_a_permutation_spread_by_query() -> None:
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(300), 4)
    order = BatchOrder(rng.integers(5, 60, 1200), 8, seed=7, groups=groups)
    first = order.batches(0)
    assert sorted(np.concatenate(first).tolist()) == list(range(1200))
    assert len(first) == len(order) == 150
    assert [b.tolist() for b in first] == [b.tolist() for b in order.batches(0)]
    assert [b.tolist() for b in first] != [b.tolist() for b in order.batches(1)]
    crowded = sum(len(set(groups[b].tolist())) < len(b) for b in first)
    assert crowded < 15


def test_order_puts_like_lengths_together_and_drops_only_when_asked() -> None:
    lengths = np.arange(1, 1003)
    spread = [np.ptp(lengths[b]) for b in BatchOrder(lengths, 4, seed=0).batches(0)]
    assert np.median(spread) < 30
    assert len(BatchOrder(lengths, 4, seed=0)) == 251
    dropped = BatchOrder(lengths, 4, seed=0, drop_last=True)
    assert len(dropped) == len(dropped.batches(0)) == 250
    assert {len(b) for b in dropped.batches(0)} == {4}


def test_every_seed_that_a_file_may_name_is_one_at_every_step() -> None:
    _, allowed = typing.get_args(Seed)
    _seed(allowed.most, 10**9, 1000)
