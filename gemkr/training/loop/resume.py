"""Where a run starts: without a checkpoint, from the newest, or from a named one; never over other results.

Knows checkpoints and what must not change between two parts of one run; nothing of models. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.data.run_folders import require_own
from gemkr.errors import CheckpointError
from gemkr.files import lock
from gemkr.training.checkpoints.folder import FINAL, clean_up_unfinished, newest_checkpoint, step_checkpoints
from gemkr.training.checkpoints.origin import Origin, origins_differ

if TYPE_CHECKING:
    from gemkr.training.checkpoints.checkpoint import Checkpoint

LOCK = "run.lock"
ResumeFrom = str | Path | None
"""None: a new run; "auto": the newest whole checkpoint of the output, or a new run when there is none; else a folder."""
FREE = frozenset({"output", "workers", "log_every", "save_every", "keep_checkpoints"})
"""Settings that may change between two parts of one run without changing its losses."""


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint folder to resume from."""

    path: Path

    def read(self, origin: Origin) -> Checkpoint:
        """Its contents; CheckpointError when it belongs to another kind, tokenizer, data or configuration."""
        from gemkr.training.checkpoints.checkpoint import read_checkpoint

        checkpoint = read_checkpoint(self.path)
        difference = origins_differ(checkpoint.origin, origin, FREE)
        if difference:
            raise CheckpointError(
                f"the checkpoint {self.path} cannot be resumed, because {difference}; restore that, or start a new "
                f"run in another output folder"
            )
        if "step" not in checkpoint.state or not checkpoint.optimizer:
            raise CheckpointError(
                f"the checkpoint {self.path} holds no optimizer state to resume from; give a step-* folder"
            )
        return checkpoint


@contextmanager
def lock_output(output: str | Path) -> Iterator[None]:
    """Lock a folder against other training runs inside the `with` block: DataError for a second run. Of the processes of one
    run, RANK 0 holds the lock; a folder that cannot be made raises later."""
    held = None
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            Path(output).mkdir(parents=True, exist_ok=True)
            held = lock(Path(output) / LOCK)
    try:
        yield
    finally:
        if held is not None:
            held.close()


def require_free(output: str | Path, resume: ResumeFrom, command: str | None = None) -> None:
    """DataError when a folder holds another command's results (where `command` says which one's may be there), CheckpointError
    when a new run would write over an earlier one."""
    if command is not None:
        require_own(output, command)
    if resume is None and _taken(Path(output)):
        raise CheckpointError(
            f"{output} already holds a training run; go on with --resume auto, or choose another output folder"
        )


def _taken(output: Path) -> bool:
    return bool(step_checkpoints(output)) or (output / FINAL).exists()


def find_resume(output: str | Path, resume: ResumeFrom, command: str | None = None) -> ResumePoint | None:
    """The checkpoint to resume from, None for a new run.

    Raises CheckpointError when a run would write over another's checkpoints, or a named checkpoint is not there, and as
    `require_free`.
    """
    output = Path(output)
    clean_up_unfinished(output)
    require_free(output, resume, command)
    taken = _taken(output)
    if resume is None:
        return None
    if str(resume) == "auto":
        newest = newest_checkpoint(output)
        if newest is None and step_checkpoints(output):
            raise CheckpointError(
                f"every checkpoint in {output} is damaged; delete them to start again, or choose another output folder"
            )
        if newest is None and taken:
            raise CheckpointError(
                f"{output} holds a finished run ({FINAL}) and no step checkpoint to go on from; choose another output folder"
            )
        return None if newest is None else ResumePoint(newest)
    path = Path(resume)
    if taken and path.resolve().parent != output.resolve():
        raise CheckpointError(
            f"{output} already holds a training run, and {path} is not of it; choose another output folder"
        )
    return ResumePoint(path)
