"""The training loop: one for fine-tuning and pre-training, on one device or on many, resumable to the last digit.

It needs of a model only `model(batch) -> mean loss over the batch's targets` and parameters that require gradients,
of the data a dataset, a collator and an order. Each step is a function of (seed, step) alone: the random generators are
seeded anew for every step, so that a resumed run repeats what an uninterrupted one does. Knows nothing of queries.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import send_to_device
from torch import Tensor, nn

from gemkr.config.ranges import require_ranges
from gemkr.errors import CheckpointError, ConfigError, ModelError
from gemkr.models.hf.llm import PRECISIONS
from gemkr.models.weights import load_weights, trained_parameters
from gemkr.training.checkpoints.checkpoint import (
    FINAL,
    Checkpoint,
    forget_after,
    prune,
    save_checkpoint,
    step_folder,
    sweep,
)
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.loop.config import LoopConfig
from gemkr.training.loop.feed import BatchFeed, TrainingData, count_targets
from gemkr.training.loop.log import RunLog, hardly_fell
from gemkr.training.loop.optimizer import (
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rates,
)
from gemkr.training.loop.schedule import WarmupCosine
from gemkr.training.loop.stop import stop_signals

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: steps taken in all, of how many, the folder to load from, the signal that stopped it if one did."""

    step: int
    total_steps: int
    checkpoint: Path
    stopped_by: int | None = None


def train(
    model: nn.Module,
    data: TrainingData,
    config: LoopConfig,
    origin: Origin,
    *,
    precision: str = "fp32",
    resume: Checkpoint | None = None,
    title: str = "train",
    tuned: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train until `epochs` or `max_steps`, whichever comes first; writes step-*/ checkpoints and final/.

    `batch_size` counts samples per device and forward pass. The loss is a mean over target tokens, whatever they are split
    into: accumulation and devices change nothing but memory. A run whose loss hardly fell says so, unless its model was
    `tuned` before. `notes` (JSON values) stand in the state of the final checkpoint. SIGTERM or SIGINT finishes the step, saves, and returns
    an Outcome with `stopped_by`. Raises ConfigError for settings that cannot run here, CheckpointError for a checkpoint
    that does not fit or cannot be written, ModelError when the loss or a gradient is no finite number.
    """
    trainer = _Trainer(model, data, config, origin, precision, title, notes or {})
    if resume is not None:
        trainer.restore(resume)
    outcome = trainer.run()
    if outcome.stopped_by is None and not tuned and trainer.accelerator.is_main_process:
        flat = hardly_fell(config.output)
        if flat is not None:
            logger.warning("%s", flat)
    trainer.leave_at_exit()
    return outcome


class _Trainer:
    """One run's state: what a checkpoint holds, and how a step is taken."""

    def __init__(
        self,
        model: nn.Module,
        data: TrainingData,
        config: LoopConfig,
        origin: Origin,
        precision: str,
        title: str,
        notes: Mapping[str, Any],
    ) -> None:
        self.notes = notes
        self.config, self.origin, self.data, self.title = config, origin, data, title
        self.output = Path(config.output)
        _check(config, data)
        self.accelerator = Accelerator(
            mixed_precision="no",
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.device = self.accelerator.device
        self.dtype = _autocast_dtype(precision, self.device.type)
        self.parameters = trained_parameters(model)
        if not self.parameters:
            raise ConfigError("nothing in the model is to be trained; set model.lora or model.train_llm")
        self.model = self.accelerator.prepare(model)
        self.optimizer = build_optimizer(self.parameters, config.optimizer)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        self.feed = BatchFeed(
            data,
            config,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            pin_memory=self.device.type == "cuda",
        )
        self.total = self.feed.total
        self.schedule = WarmupCosine.of(config.optimizer, self.total)
        self.step = 0
        self.saved: int | None = None
        self.window: list[Tensor] = []
        self.tokens = 0
        self.sound = torch.ones((), dtype=torch.bool, device=self.device)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on after `checkpoint`; CheckpointError when it does not fit."""
        load_weights(self.parameters, checkpoint.weights, f"the checkpoint {checkpoint.path}")
        restore_optimizer(self.optimizer, self.parameters, checkpoint.optimizer, str(checkpoint.path))
        state = checkpoint.state
        for name, here in (("world_size", self.accelerator.num_processes), ("total_steps", self.total)):
            if state[name] != here:
                raise CheckpointError(
                    f"the checkpoint {checkpoint.path} was written with {name} {state[name]}, here it is {here}; "
                    f"resume with the settings of its {checkpoint.path.name}/config.json"
                )
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.step = self.saved = state["step"]
        self.tokens = state["tokens"]
        self.window = [torch.tensor(value, dtype=torch.float64) for value in state["window"]]

    def run(self) -> Outcome:
        main = self.accelerator.is_main_process
        if main:
            sweep(self.output)
            forget_after(self.output, self.step)
        self.model.train()
        with (
            RunLog(self.output, start=self.step, total=self.total, title=self.title, active=main) as log,
            stop_signals() as stop,
        ):
            for group in self.feed.groups(self.step):
                self._take_step(group, log)
                log.step()
                stopped = self._agree(stop)
                if stopped or self.step % self.config.save_every == 0:
                    self._develop(log)
                    self._save()
                if stopped and self.step < self.total:
                    return Outcome(self.step, self.total, step_folder(self.output, self.step), stopped)
            if self.saved != self.step:
                self._develop(log)
                self._save()
            self._save_final()
        return Outcome(self.step, self.total, self.output / FINAL)

    def leave_at_exit(self) -> None:
        """Destroy the process group before the interpreter ends: gloo's threads may want its lock afterwards, which aborts
        a process that has done everything (pytorch issue 190489). Not after an error, when others may wait in it."""
        if self.accelerator.num_processes > 1:
            atexit.register(self.accelerator.end_training)

    def _take_step(self, group: list[Any], log: RunLog) -> None:
        started = time.perf_counter()
        _seed(self.config.seed, self.step, self.accelerator.process_index)
        set_rates(self.optimizer, self.schedule, self.step)
        counts = torch.tensor([count_targets(batch) for batch in group], dtype=torch.int64)
        targets = int(self.accelerator.reduce(counts.sum().to(self.device)))
        world = self.accelerator.num_processes
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for number, (batch, count) in enumerate(zip(group, counts.tolist())):
            last = number == len(group) - 1
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
            self.sound &= torch.isfinite(norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += targets
        self.window.append(loss)
        if self.step % self.config.log_every == 0 or self.step == self.total:
            self._report(float(norm), time.perf_counter() - started, log)

    def _report(self, norm: float, seconds: float, log: RunLog) -> None:
        losses = self.accelerator.reduce(torch.stack([x.to(self.device) for x in self.window])).tolist()
        mean = math.fsum(losses) / len(losses)
        if not math.isfinite(mean):
            raise ModelError(
                f"the loss is {mean} after step {self.step} with lr {self.schedule.at(self.step - 1):.2g}; "
                f"lower optimizer.lr or train in fp32, and resume from the last checkpoint in {self.output}"
            )
        self._require_sound()
        self.window = []
        log.row(
            self.step,
            epoch=(self.step - 1) // self.feed.steps_per_epoch,
            loss=mean,
            lr=self.schedule.at(self.step - 1),
            grad_norm=norm,
            target_tokens=self.tokens,
            step_seconds=round(seconds, 4),
        )

    def _develop(self, log: RunLog) -> None:
        """Measure the mean loss per target token on the development data."""
        if not len(self.data.development):
            return
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        self.model.eval()
        with torch.no_grad(), self._autocast():
            for batch in self.feed.development():
                count = count_targets(batch)
                loss = self.accelerator.unwrap_model(self.model)(send_to_device(batch, self.device))
                total += torch.stack([loss.double() * count, torch.full_like(loss.double(), count)])
        self.model.train()
        losses, count = self.accelerator.reduce(total).tolist()
        log.row(self.step, development_loss=losses / count)

    def _require_sound(self) -> None:
        """Raise ModelError once a gradient was no number, and with it the weights: such weights are never saved. Looked
        at here and not at every step, which would wait for the device each time."""
        if not self.sound:
            raise ModelError(
                f"a gradient was not finite in step {self.step} or one of the few before it, with lr "
                f"{self.schedule.at(self.step - 1):.2g}; lower optimizer.lr or train in fp32, and resume from the last checkpoint "
                f"in {self.output}"
            )

    def _save(self) -> None:
        self._require_sound()
        if self.accelerator.is_main_process:
            save_checkpoint(
                step_folder(self.output, self.step),
                self.origin,
                self.parameters,
                optimizer=optimizer_tensors(self.optimizer, self.parameters),
                state={
                    "step": self.step,
                    "total_steps": self.total,
                    "world_size": self.accelerator.num_processes,
                    "tokens": self.tokens,
                    "window": [float(x) for x in self.window],
                    "scaler": self.scaler.state_dict(),
                },
            )
            prune(self.output, self.config.keep_checkpoints)
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def _save_final(self) -> None:
        if self.accelerator.is_main_process:
            state = {**self.notes, "step": self.step, "total_steps": self.total}
            save_checkpoint(self.output / FINAL, self.origin, self.parameters, state=state)
        self.accelerator.wait_for_everyone()

    def _agree(self, stop: list[int]) -> int | None:
        """The signal that any process received, told to all of them."""
        if self.accelerator.num_processes == 1:
            return stop[0] if stop else None
        told = torch.tensor(stop[0] if stop else 0, device=self.device)
        return int(self.accelerator.gather(told.reshape(1)).max()) or None

    def _autocast(self) -> Any:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)


def _check(config: LoopConfig, data: TrainingData) -> None:
    require_ranges(config)
    if not len(data.dataset):
        raise ConfigError("there is no sample to train on")
    folder = Path(config.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"the output folder {folder} cannot be made ({error.strerror}); choose another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise CheckpointError(f"the output folder {folder} cannot be written; choose another")


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
