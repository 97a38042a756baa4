"""What the checkpoints of a run hold, written and read back: its weights, its optimizer and how far it has come. Takes no step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemkr.errors import CheckpointError
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
from gemkr.training.loop.optimizer import (
    carried_tensors,
    optimizer_tensors,
    restore_optimizer,
    split_carried,
)
from gemkr.training.loop.step import Stepper


@dataclass
class RunState:
    """How far a run has come: steps taken, target tokens learned, and the losses (float64) of the steps since the last report."""

    step: int = 0
    tokens: int = 0
    window: list[Tensor] = field(default_factory=list)


class Saver:
    """The checkpoints of one run in `output`. All processes call it, the main one writes."""

    def __init__(
        self,
        output: Path,
        origin: Origin,
        stepper: Stepper,
        *,
        total: int,
        keep: int,
        notes: Mapping[str, Any],
    ) -> None:
        """`total` steps make the run, the newest `keep` checkpoints are kept, `notes` stand in the state of the final one."""
        self.output, self.origin, self.stepper = output, origin, stepper
        self.total, self.keep, self.notes = total, keep, notes
        self.accelerator = stepper.accelerator
        self.saved: int | None = None
        """The step of the last checkpoint written or restored."""

    def restore(self, checkpoint: Checkpoint) -> RunState:
        """Put a checkpoint's tensors where they were; CheckpointError when it does not fit."""
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
        self.saved = state["step"]
        window = [torch.tensor(value, dtype=torch.float64) for value in state["window"]]
        return RunState(state["step"], state["tokens"], window)

    def clear(self, step: int) -> None:
        """Delete what an interrupted write left, and the checkpoints after step `step`."""
        if self.accelerator.is_main_process:
            clean_up_unfinished(self.output)
            delete_later_checkpoints(self.output, step)

    def save(self, at: RunState) -> None:
        """Write all that the run needs to go on from here."""
        if self.accelerator.is_main_process:
            save_checkpoint(
                step_folder(self.output, at.step),
                self.origin,
                self.stepper.parameters,
                optimizer=optimizer_tensors(self.stepper.optimizer, self.stepper.parameters)
                | carried_tensors(self.stepper.carried()),
                state={
                    "step": at.step,
                    "total_steps": self.total,
                    "world_size": self.accelerator.num_processes,
                    "tokens": at.tokens,
                    "window": [float(x) for x in at.window],
                    "scaler": self.stepper.scaler.state_dict(),
                },
            )
            prune(self.output, self.keep)
        self.saved = at.step
        self.accelerator.wait_for_everyone()

    def save_final(self, step: int) -> None:
        """Write what the run has learned, without its optimizer."""
        if self.accelerator.is_main_process:
            state = {**self.notes, "step": step, "total_steps": self.total}
            save_checkpoint(self.output / FINAL, self.origin, self.stepper.parameters, state=state)
        self.accelerator.wait_for_everyone()


def make_output(folder: Path) -> None:
    """CheckpointError where checkpoints could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"the output folder {folder} cannot be made ({error.strerror}); choose another"
        ) from error
    if not os.access(folder, os.W_OK):
        raise CheckpointError(f"the output folder {folder} cannot be written; choose another")
