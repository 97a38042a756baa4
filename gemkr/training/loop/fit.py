"""The loop of a small learner: some epochs in one process, without checkpoints. `trainer` is the one for models that matter.

What is learned, from which batches and by which loss is the caller's; who calls seeds the random generators too, and draws from
them while batches and losses are asked for, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gemkr.progress import progress_bar
from gemkr.training.loop.optimizer import set_rates
from gemkr.training.loop.schedule import WarmupLinear

B = TypeVar("B")


def fit(
    groups: Sequence[Mapping[str, Any]],
    batches: Iterable[B],
    loss: Callable[[B], Tensor],
    schedule: WarmupLinear,
    *,
    weight_decay: float,
    clipped: Sequence[Tensor] = (),
    title: str,
) -> None:
    """One AdamW step on `loss(batch)` for each of the `schedule.total_steps` batches.

    A group holds `params`, its `peak_lr`, and a `weight_decay` of its own if it has one. The gradient of `clipped` is cut to
    length 1.
    """
    optimizer = torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)
    with progress_bar(total=schedule.total_steps, desc=title, unit=" steps") as bar:
        for step, batch in enumerate(batches):
            set_rates(optimizer, schedule, step)
            optimizer.zero_grad()
            loss(batch).backward()
            if clipped:
                nn.utils.clip_grad_norm_(clipped, 1.0)
            optimizer.step()
            bar.update()
