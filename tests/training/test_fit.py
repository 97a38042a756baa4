"""The loop of small learners: the steps of a hand-written one to the last digit, and its schedule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gemkr.training.loop.fit import fit
from gemkr.training.loop.schedule import WarmupLinear


def by_hand(model: nn.Sequential, batches: list[Tensor], clipped: list[Tensor]) -> None:
    groups = [
        {"params": model[0].parameters(), "peak": 3e-3},
        {"params": model[2].parameters(), "peak": 2e-2, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.3, fused=True)
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1.0, (step + 1) / 4) * (1 - step / len(batches))
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        if clipped:
            nn.utils.clip_grad_norm_(clipped, 1.0)
        optimizer.step()


@pytest.mark.parametrize("clips", [False, True])
def test_steps_are_those_of_a_loop_by_hand(clips: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    batches = [10 * torch.randn(6, 5) for _ in range(9)]
    other = copy.deepcopy(model)
    by_hand(other, batches, list(other.parameters()) if clips else [])
    groups = [
        {"params": model[0].parameters(), "peak_lr": 3e-3},
        {"params": model[2].parameters(), "peak_lr": 2e-2, "weight_decay": 0.0},
    ]
    fit(
        groups,
        batches,
        lambda batch: model(batch).square().mean(),
        WarmupLinear(4, 9),
        weight_decay=0.3,
        clipped=list(model.parameters()) if clips else (),
        title="toy",
    )
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_rates_rise_and_fall_to_nothing() -> None:
    schedule = WarmupLinear(4, 10)
    rates = [schedule.rate(2.0, step) for step in range(11)]
    assert rates[0] == 0.5
    assert rates[3] == 2.0 * (1 - 3 / 10)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[10] == 0.0
