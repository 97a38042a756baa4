"""The checkpoints in a run's folder: which there are, the newest whole one, and cleaning up. Loads no tensors and no torch."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.manifest import STATE, read_manifest, verified, verify_checkpoint

FINAL = "final"
_STEP = re.compile(r"step-(\d{6,})")
_UNFINISHED = re.compile(r"\.(step-\d{6,}|final)\.(part|old)")

logger = logging.getLogger(__name__)


def step_folder(output: str | Path, step: int) -> Path:
    """The folder of the checkpoint after `step` optimizer steps."""
    return Path(output) / f"step-{step:06d}"


def read_state(path: str | Path) -> dict[str, Any]:
    """The `state` of a checkpoint folder alone, without its tensors; CheckpointError as `read_checkpoint`."""
    path = Path(path)
    facts = read_manifest(path)["files"].get(STATE)
    if facts is None:
        raise CheckpointError(
            f"the manifest of the checkpoint {path} does not list {STATE}; take another one"
        )
    return json.loads(verified(path / STATE, facts))


def newest_checkpoint(output: str | Path) -> Path | None:
    """The last whole step checkpoint in a folder, or None; a damaged one is named in a warning and skipped."""
    for path in reversed(step_checkpoints(output)):
        try:
            verify_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s; going back to the one before it", error)
        else:
            return path
    return None


def step_checkpoints(output: str | Path) -> list[Path]:
    """The step checkpoints in a folder, oldest first."""
    output = Path(output)
    found = [p for p in output.iterdir() if _STEP.fullmatch(p.name)] if output.is_dir() else []
    return sorted(found, key=lambda p: int(p.name.removeprefix("step-")))


def prune(output: str | Path, keep: int) -> None:
    """Delete all but the newest `keep` step checkpoints; each disappears whole."""
    for path in step_checkpoints(output)[:-keep]:
        _delete(path)


def delete_later_checkpoints(output: str | Path, step: int) -> None:
    """Delete the checkpoints of later steps: those of a run that resumed from an earlier one."""
    for path in step_checkpoints(output):
        if int(path.name.removeprefix("step-")) > step:
            logger.warning("going back to step %d, so that %s is deleted", step, path)
            _delete(path)


def _delete(path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    os.rename(path, part)
    shutil.rmtree(part, ignore_errors=True)


def clean_up_unfinished(output: str | Path) -> None:
    """Clean up after an interrupted write: delete temporary folders, restore a checkpoint that was being replaced."""
    for path in list(Path(output).iterdir()) if Path(output).is_dir() else []:
        unfinished = _UNFINISHED.fullmatch(path.name)
        if not unfinished:
            continue
        if unfinished[2] == "old" and not path.with_name(unfinished[1]).exists():
            os.rename(path, path.with_name(unfinished[1]))
        else:
            shutil.rmtree(path, ignore_errors=True)
