"""The learning rate of each step: linear warm-up, then a cosine down to a floor.

A pure function of the step number, so that resuming needs no scheduler state. Knows no optimizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gemkr.training.loop.config import OptimizerConfig

LONGEST_WARMUP = 0.25


@dataclass(frozen=True, slots=True)
class WarmupCosine:
    """Learning rates of steps 0, 1, ..., total - 1 (GeMKR trains with warm-up 200 from 1e-6, cosine to 1e-5).

    Step 0 takes `warmup_lr`, step `warmup_steps` takes `lr`, the last step takes `min_lr`.
    """

    lr: float
    warmup_lr: float
    min_lr: float
    warmup_steps: int
    total_steps: int

    @staticmethod
    def of(config: OptimizerConfig, total_steps: int) -> WarmupCosine:
        """The schedule that a configuration asks for, over `total_steps` optimizer steps.

        A warm-up of more than a share `LONGEST_WARMUP` of the run is cut to it, or a short run would end before it has learned
        anything; a floor above `lr` (a miniature run with the paper's floor) is lowered to `lr`.
        """
        return WarmupCosine(
            config.lr,
            min(config.warmup_lr, config.lr),
            min(config.min_lr, config.lr),
            min(config.warmup_steps, int(LONGEST_WARMUP * total_steps)),
            total_steps,
        )

    def at(self, step: int) -> float:
        """The rate that step `step` (counted from 0) is taken with."""
        if step < self.warmup_steps:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / self.warmup_steps
        length = self.total_steps - 1 - self.warmup_steps
        share = 1.0 if length <= 0 else min((step - self.warmup_steps) / length, 1.0)
        if length <= 0 and step == self.warmup_steps:
            return self.lr
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + math.cos(math.pi * share))

    def factor(self, step: int) -> float:
        """`at(step)` as a share of `lr`: what groups with a rate of their own are multiplied by."""
        return self.at(step) / self.lr
