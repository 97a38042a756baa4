"""The learning rate of each step: linear warm-up, then a cosine or a line down to a floor, or a line down to 0.

A pure function of the step number, so that resuming needs no scheduler state. Knows no optimizer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from gemkr.errors import ConfigError
from gemkr.training.loop.config import OptimizerConfig

LONGEST_WARMUP = 0.25
COSINE, LINEAR = DECAYS = ("cosine", "linear")


class Schedule(Protocol):
    """The rate of each step for parameters with the peak rate `peak`."""

    def rate(self, peak: float, step: int) -> float: ...


@dataclass(frozen=True, slots=True)
class WarmupCosine:
    """Learning rates of steps 0, 1, ..., total - 1 (GeMKR trains with warm-up 200 from 1e-6, cosine to 1e-5).

    Step 0 takes `warmup_lr`, step `warmup_steps` takes `lr`, the last step takes `min_lr`; between the last two lies a line where
    it is `linear`.
    """

    lr: float
    warmup_lr: float
    min_lr: float
    warmup_steps: int
    total_steps: int
    linear: bool = False

    @staticmethod
    def of(config: OptimizerConfig, total_steps: int) -> WarmupCosine:
        """The schedule of a configuration, over `total_steps` optimizer steps; ConfigError for a decay that is unknown.

        A warm-up of more than a share `LONGEST_WARMUP` of the run is cut to it, since a short run would end within its
        warm-up; a floor above `lr` (a miniature run with the paper's floor) is lowered to `lr`.
        """
        if config.decay not in DECAYS:
            raise ConfigError(f"optimizer.decay is {config.decay!r}; use {' or '.join(DECAYS)}")
        return WarmupCosine(
            config.lr,
            min(config.warmup_lr, config.lr),
            min(config.min_lr, config.lr),
            min(config.warmup_steps, int(LONGEST_WARMUP * total_steps)),
            total_steps,
            config.decay == LINEAR,
        )

    def at(self, step: int) -> float:
        """The rate that step `step` (counted from 0) is taken with."""
        if step < self.warmup_steps:
            return self.warmup_lr + (self.lr - self.warmup_lr) * step / self.warmup_steps
        length = self.total_steps - 1 - self.warmup_steps
        share = 1.0 if length <= 0 else min((step - self.warmup_steps) / length, 1.0)
        if length <= 0 and step == self.warmup_steps:
            return self.lr
        left = 1.0 - share if self.linear else 0.5 * (1.0 + math.cos(math.pi * share))
        return self.min_lr + (self.lr - self.min_lr) * left

    def rate(self, peak: float, step: int) -> float:
        """The rate of parameters whose peak is not `lr` but `peak`."""
        return peak * (self.at(step) / self.lr)


@dataclass(frozen=True, slots=True)
class WarmupLinear:
    """Rates that rise over `warmup_steps` steps and fall to 0 over all `total_steps`: for learners of a few minutes."""

    warmup_steps: int
    total_steps: int

    def rate(self, peak: float, step: int) -> float:
        """The rate that step `step` (counted from 0) is taken with."""
        return peak * min(1.0, (step + 1) / self.warmup_steps) * (1 - step / self.total_steps)
