"""The training loop: one for fine-tuning and pre-training, on one device or on many, resumable to the last digit.

It needs of a model only `model(batch) -> mean loss over the batch's targets` and parameters that require gradients (and, where it
keeps something else from step to step, `carried()` and `recall(tensors)`), of the data a dataset, a collator and an order. As each step is a function of (seed, step) alone (`step`), a resumed run
repeats what an uninterrupted one does. Knows nothing of queries.
"""

from __future__ import annotations

import atexit
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import nn

from gemkr.config.ranges import require_ranges
from gemkr.errors import ConfigError, ModelError
from gemkr.training.checkpoints.checkpoint import Checkpoint
from gemkr.training.checkpoints.folder import FINAL, step_folder
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.loop.config import LoopConfig
from gemkr.training.loop.feed import BatchFeed, TrainingData
from gemkr.training.loop.log import FIRST_LOSS, RunLog, flat_loss_message
from gemkr.training.loop.saving import RunState, Saver, make_output
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
    """One run: its steps, what is reported of them, and when it is saved."""

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
        self.config, self.data, self.title = config, data, title
        self.output = Path(config.output)
        require_ranges(config)
        if not len(data.dataset):
            raise ConfigError("there is no sample to train on")
        make_output(self.output)
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
        self.saver = Saver(
            self.output, origin, self.stepper, total=self.total, keep=config.keep_checkpoints, notes=notes
        )
        self.state = RunState()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue after `checkpoint`; CheckpointError when it does not fit."""
        self.state = self.saver.restore(checkpoint)

    def run(self) -> Outcome:
        main = self.accelerator.is_main_process
        self.saver.clear(self.state.step)
        self.stepper.model.train()
        with (
            RunLog(
                self.output, start=self.state.step, total=self.total, title=self.title, active=main
            ) as log,
            stop_signals() as stop,
        ):
            for group in self.feed.groups(self.state.step):
                self._take_step(group, log)
                log.step()
                stopped = self._agree(stop)
                if stopped or self.state.step % self.config.save_every == 0:
                    self._save(log)
                if stopped and self.state.step < self.total:
                    return Outcome(
                        self.state.step, self.total, step_folder(self.output, self.state.step), stopped
                    )
            if self.saver.saved != self.state.step:
                self._save(log)
            self.saver.save_final(self.state.step)
        return Outcome(self.state.step, self.total, self.output / FINAL)

    def end_process_group_at_exit(self) -> None:
        """Destroy the process group before the interpreter ends: gloo's threads may want its lock afterwards, which aborts
        a process that has done everything (pytorch issue 190489). Not after an error, when others may wait in it."""
        if self.accelerator.num_processes > 1:
            atexit.register(self.accelerator.end_training)

    def _take_step(self, group: list[Any], log: RunLog) -> None:
        started = time.perf_counter()
        done = self.stepper.take(group, self.state.step, self.schedule)
        self.state.step += 1
        self.state.tokens += done.targets
        self.state.window.append(done.loss)
        if self.state.step % self.config.log_every == 0 or self.state.step == self.total:
            self._report(float(done.norm), time.perf_counter() - started, log)

    def _report(self, norm: float, seconds: float, log: RunLog) -> None:
        losses = self.accelerator.reduce(torch.stack([x.to(self.device) for x in self.state.window])).tolist()
        mean = math.fsum(losses) / len(losses)
        if not math.isfinite(mean):
            raise ModelError(
                f"the loss is {mean} after step {self.state.step} with lr {self.schedule.at(self.state.step - 1):.2g}; "
                f"lower optimizer.lr or train in fp32, and resume from the last checkpoint in {self.output}"
            )
        self._require_sound()
        self.state.window = []
        first = {FIRST_LOSS: losses[0]} if len(losses) == self.state.step else {}
        log.row(
            self.state.step,
            epoch=(self.state.step - 1) // self.feed.steps_per_epoch,
            loss=mean,
            lr=self.schedule.at(self.state.step - 1),
            grad_norm=norm,
            target_tokens=self.state.tokens,
            step_seconds=round(seconds, 4),
            **first,
        )

    def _save(self, log: RunLog) -> None:
        """Write a checkpoint, after measuring the mean loss per target token on the development data."""
        if len(self.data.development):
            log.row(self.state.step, development_loss=self.stepper.measure(self.feed.development()))
        self._require_sound()
        self.saver.save(self.state)

    def _require_sound(self) -> None:
        self.stepper.require_sound(
            f"in step {self.state.step} or one of the few before it, with lr {self.schedule.at(self.state.step - 1):.2g}; lower optimizer.lr "
            f"or train in fp32, and resume from the last checkpoint in {self.output}"
        )

    def _agree(self, stop: list[int]) -> int | None:
        """The signal that any process received, for all of them."""
        if self.accelerator.num_processes == 1:
            return stop[0] if stop else None
        signal = torch.tensor(stop[0] if stop else 0, device=self.device)
        return int(self.accelerator.gather(signal.reshape(1)).max()) or None
