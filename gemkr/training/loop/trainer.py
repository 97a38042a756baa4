"""The training loop: one for fine-tuning and pre-training, on one device or on many, resumable to the last digit.

It needs of a model only `model(batch) -> mean loss over the batch's targets` and parameters that require gradients (and, where it
keeps something else from step to step, `carried()` and `recall(tensors)`), of the data a dataset, a collator and an order. As each step is a function of (seed, step) alone (`step`), a resumed run
repeats what an uninterrupted one does. Knows nothing of queries.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from gemkr.config.ranges import require_ranges
from gemkr.errors import CheckpointError, ConfigError, ModelError
from gemkr.models.weights import load_weights
from gemkr.training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from gemkr.training.checkpoints.folder import (
    FINAL,
    clean_up_unfinished,
    delete_later_checkpoints,
    prune,
    step_folder,
)
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.loop.config import LoopConfig
from gemkr.training.loop.feed import BatchFeed, TrainingData
from gemkr.training.loop.log import FIRST_LOSS, RunLog, flat_loss_message
from gemkr.training.loop.optimizer import (
    carried_tensors,
    optimizer_tensors,
    restore_optimizer,
    split_carried,
)
from gemkr.training.loop.schedule import WarmupCosine
from gemkr.training.loop.step import Stepper
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
    into: accumulation and devices only change memory. A run whose loss hardly fell logs a warning, unless its model was
    `tuned` before. `notes` (JSON values) stand in the state of the final checkpoint. SIGTERM or SIGINT finishes the step, saves, and returns
    an Outcome with `stopped_by`. Raises ConfigError for settings that cannot run here, CheckpointError for a checkpoint
    that does not fit or cannot be written, ModelError when the loss or a gradient is no finite number.
    """
    trainer = _Trainer(model, data, config, origin, precision, title, notes or {})
    if resume is not None:
        trainer.restore(resume)
    outcome = trainer.run()
    if outcome.stopped_by is None and not tuned and trainer.accelerator.is_main_process:
        message = flat_loss_message(config.output)
        if message is not None:
            logger.warning("%s", message)
    trainer.end_process_group_at_exit()
    return outcome


class _Trainer:
    """One run's state: what a checkpoint holds, what is reported and when it is saved."""

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
        self.stepper = Stepper(model, self.accelerator, config, precision)
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

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`; CheckpointError when it does not fit."""
        load_weights(self.stepper.parameters, checkpoint.weights, f"the checkpoint {checkpoint.path}")
        tensors, carried = split_carried(checkpoint.optimizer)
        restore_optimizer(self.stepper.optimizer, self.stepper.parameters, tensors, str(checkpoint.path))
        self.stepper.recall(carried)
        state = checkpoint.state
        for name, here in (("world_size", self.accelerator.num_processes), ("total_steps", self.total)):
            if state[name] != here:
                raise CheckpointError(
                    f"the checkpoint {checkpoint.path} was written with {name} {state[name]}, here it is {here}; "
                    f"resume with the settings of its {checkpoint.path.name}/config.json"
                )
        if self.stepper.scaler.is_enabled():
            self.stepper.scaler.load_state_dict(state["scaler"])
        self.step = self.saved = state["step"]
        self.tokens = state["tokens"]
        self.window = [torch.tensor(value, dtype=torch.float64) for value in state["window"]]

    def run(self) -> Outcome:
        main = self.accelerator.is_main_process
        if main:
            clean_up_unfinished(self.output)
            delete_later_checkpoints(self.output, self.step)
        self.stepper.model.train()
        with (
            RunLog(self.output, start=self.step, total=self.total, title=self.title, active=main) as log,
            stop_signals() as stop,
        ):
            for group in self.feed.groups(self.step):
                self._take_step(group, log)
                log.step()
                stopped = self._agree(stop)
                if stopped or self.step % self.config.save_every == 0:
                    self._measure_development(log)
                    self._save()
                if stopped and self.step < self.total:
                    return Outcome(self.step, self.total, step_folder(self.output, self.step), stopped)
            if self.saved != self.step:
                self._measure_development(log)
                self._save()
            self._save_final()
        return Outcome(self.step, self.total, self.output / FINAL)

    def end_process_group_at_exit(self) -> None:
        """Destroy the process group before the interpreter ends: gloo's threads may want its lock afterwards, which aborts
        a process that has done everything (pytorch issue 190489). Not after an error, when others may wait in it."""
        if self.accelerator.num_processes > 1:
            atexit.register(self.accelerator.end_training)

    def _take_step(self, group: list[Any], log: RunLog) -> None:
        started = time.perf_counter()
        done = self.stepper.take(group, self.step, self.schedule)
        self.step += 1
        self.tokens += done.targets
        self.window.append(done.loss)
        if self.step % self.config.log_every == 0 or self.step == self.total:
            self._report(float(done.norm), time.perf_counter() - started, log)

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
        first = {FIRST_LOSS: losses[0]} if len(losses) == self.step else {}
        log.row(
            self.step,
            epoch=(self.step - 1) // self.feed.steps_per_epoch,
            loss=mean,
            lr=self.schedule.at(self.step - 1),
            grad_norm=norm,
            target_tokens=self.tokens,
            step_seconds=round(seconds, 4),
            **first,
        )

    def _measure_development(self, log: RunLog) -> None:
        """Measure the mean loss per target token on the development data."""
        if len(self.data.development):
            log.row(self.step, development_loss=self.stepper.measure(self.feed.development()))

    def _require_sound(self) -> None:
        self.stepper.require_sound(
            f"in step {self.step} or one of the few before it, with lr {self.schedule.at(self.step - 1):.2g}; lower optimizer.lr "
            f"or train in fp32, and resume from the last checkpoint in {self.output}"
        )

    def _save(self) -> None:
        self._require_sound()
        if self.accelerator.is_main_process:
            save_checkpoint(
                step_folder(self.output, self.step),
                self.origin,
                self.stepper.parameters,
                optimizer=optimizer_tensors(self.stepper.optimizer, self.stepper.parameters)
                | carried_tensors(self.stepper.carried()),
                state={
                    "step": self.step,
                    "total_steps": self.total,
                    "world_size": self.accelerator.num_processes,
                    "tokens": self.tokens,
                    "window": [float(x) for x in self.window],
                    "scaler": self.stepper.scaler.state_dict(),
                },
            )
            prune(self.output, self.config.keep_checkpoints)
        self.saved = self.step
        self.accelerator.wait_for_everyone()

    def _save_final(self) -> None:
        if self.accelerator.is_main_process:
            state = {**self.notes, "step": self.step, "total_steps": self.total}
            save_checkpoint(self.output / FINAL, self.origin, self.stepper.parameters, state=state)
        self.accelerator.wait_for_everyone()

    def _agree(self, stop: list[int]) -> int | None:
        """The signal that any process received, for all of them."""
        if self.accelerator.num_processes == 1:
            return stop[0] if stop else None
        signal = torch.tensor(stop[0] if stop else 0, device=self.device)
        return int(self.accelerator.gather(signal.reshape(1)).max()) or None


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
