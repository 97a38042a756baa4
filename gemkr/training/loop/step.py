"""How one step is taken: forward and backward passes over its batches, precision, clipping, AdamW. Knows neither epochs nor files.

Each step is a function of (seed, step) alone: the random generators are seeded for every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn

from gemkr.errors import ConfigError, ModelError
from gemkr.models.precision import PRECISIONS, autocast
from gemkr.models.weights import trained_parameters
from gemkr.training.loop.config import LoopConfig
from gemkr.training.loop.feed import count_targets
from gemkr.training.loop.optimizer import build_optimizer, set_rates
from gemkr.training.loop.schedule import Schedule


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """`loss` float64, this process's part of the mean over all `targets`; `norm`, the length of the gradient before clipping."""

    loss: Tensor
    norm: Tensor
    targets: int


class Stepper:
    """A model and its optimizer on this process's device."""

    def __init__(
        self, model: nn.Module, accelerator: Accelerator, config: LoopConfig, precision: str
    ) -> None:
        """Raises ConfigError when nothing in the model learns or `precision` cannot be had here."""
        self.accelerator, self.config, self.device = accelerator, config, accelerator.device
        self.dtype = _autocast_dtype(precision, self.device.type)
        self.parameters = trained_parameters(model)
        if not self.parameters:
            raise ConfigError("nothing in the model is to be trained; set model.lora or model.train_llm")
        self.model = accelerator.prepare(model)
        self.optimizer = build_optimizer(self.parameters, config.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)

    def take(self, batches: list[Any], step: int, schedule: Schedule) -> StepOutcome:
        """Learn from the batches of step `step`. The loss is a mean over target tokens, whatever they are split into."""
        _seed(self.config.seed, step, self.accelerator.process_index)
        set_rates(self.optimizer, schedule, step)
        counts = torch.tensor([count_targets(batch) for batch in batches], dtype=torch.int64)
        targets = int(self.accelerator.reduce(counts.sum().to(self.device)))
        world = self.accelerator.num_processes
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, (batch, count) in enumerate(zip(batches, counts.tolist())):
            last = number == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model), self._autocast():
                part = self.model(send_to_device(batch, self.device)) * (count * world / targets)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                self.accelerator.backward(self.scaler.scale(part))
            loss += part.detach().double() / world
        self.scaler.unscale_(self.optimizer)
        longest = self.config.optimizer.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(
            list(self.parameters.values()), math.inf if longest is None else longest
        )
        if not self.scaler.is_enabled():  # which leaves such a step out
            self._sound &= torch.isfinite(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepOutcome(loss, norm, targets)

    def measure(self, batches: Iterable[Any]) -> float:
        """The mean loss per target over the batches of all processes; nothing is learned."""
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.model.eval()
        with torch.no_grad(), self._autocast():
            for batch in batches:
                count = count_targets(batch)
                loss = self.accelerator.unwrap_model(self.model)(send_to_device(batch, self.device))
                total += torch.stack([loss.double() * count, torch.full_like(loss.double(), count)])
        self.model.train()
        losses, count = self.accelerator.reduce(total).tolist()
        return losses / count

    def carried(self) -> dict[str, Tensor]:
        """What the model keeps from step to step beside its parameters."""
        model = self.accelerator.unwrap_model(self.model)
        return model.carried() if hasattr(model, "carried") else {}

    def recall(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `carried`."""
        model = self.accelerator.unwrap_model(self.model)
        if hasattr(model, "recall"):
            model.recall(tensors)

    def require_sound(self, where: str) -> None:
        """Raise ModelError, which begins with `where`, once a gradient was not a number, and with it the weights: such weights
        are never saved. Checked at intervals, since a check waits for the device."""
        if not self._sound:
            raise ModelError(f"a gradient was not finite {where}")

    def _autocast(self) -> Any:
        return nullcontext() if self.dtype is None else autocast(self.device, self.dtype)


def _autocast_dtype(precision: str, device: str) -> torch.dtype | None:
    if precision not in PRECISIONS:
        raise ConfigError(f"the precision {precision!r} is unknown; use {', '.join(PRECISIONS)}")
    if precision == "fp16" and device == "cpu":
        raise ConfigError("fp16 training needs a GPU and only the CPU is here; use bf16 or fp32")
    dtype = PRECISIONS[precision]
    return None if dtype is torch.float32 else dtype


def _seed(seed: int, step: int, rank: int) -> None:
    """Dropout of step `step` depends on nothing that happened before it."""
    torch.manual_seed((seed * 1_000_003 + step) * 1009 + rank)
