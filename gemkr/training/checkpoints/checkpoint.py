"""Checkpoints: folders that are either complete or absent, and that record what they belong to.

A folder is written under a temporary name, every file synced, then renamed, so that no crash leaves half of one under
a final name; its manifest records every byte and the origin. Tensors are safetensors, the rest json: nothing here
is ever unpickled. Knows models only as named tensors.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.folder import newest_checkpoint
from gemkr.training.checkpoints.manifest import (
    CONFIG,
    MANIFEST,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    facts_of,
    manifest_of,
    origin_in,
    read_manifest,
    verified,
)
from gemkr.training.checkpoints.origin import Origin


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory, tensors on the CPU. `optimizer` is empty for a final one; `state` is the loop's own."""

    path: Path
    origin: Origin
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    path: Path,
    origin: Origin,
    weights: Mapping[str, Tensor],
    *,
    optimizer: Mapping[str, Tensor] | None = None,
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder; afterwards `path` is the whole new one, or whatever it was before.

    Raises CheckpointError when it cannot be written (a full disk, for one); nothing half-written stays behind.
    """
    part, old = (path.with_name(f".{path.name}.{word}") for word in ("part", "old"))
    try:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        part.mkdir(parents=True)
        files = {
            WEIGHTS: _write(part / WEIGHTS, tensors_to_bytes(_portable(weights))),
            CONFIG: _write(part / CONFIG, _json(origin.config)),
            STATE: _write(part / STATE, _json(dict(state or {}))),
        }
        if optimizer is not None:
            files[OPTIMIZER] = _write(part / OPTIMIZER, tensors_to_bytes(_portable(optimizer)))
        _write(part / MANIFEST, _json(manifest_of(origin, files)))
        _sync_folder(part)
        if path.exists():
            os.rename(path, old)
        os.rename(part, path)
        _sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not path.exists():
            os.rename(old, path)
        kept = newest_checkpoint(path.parent)
        rest = (
            f"{kept.name} is whole, so free some space and go on with --resume auto"
            if kept
            else "free some space"
        )
        raise CheckpointError(
            f"the checkpoint {path} could not be written ({error.strerror}); {rest}"
        ) from error


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read and verify a checkpoint folder.

    Raises CheckpointError for a missing folder or file, a format of another version, a checksum that differs.
    """
    path = Path(path)
    manifest = read_manifest(path)
    contents = {name: verified(path / name, facts) for name, facts in manifest["files"].items()}
    missing = [name for name in (WEIGHTS, CONFIG, STATE) if name not in contents]
    if missing:
        raise CheckpointError(
            f"the manifest of the checkpoint {path} does not list {missing[0]}; take another one"
        )
    try:
        return Checkpoint(
            path=path,
            origin=origin_in(manifest, contents[CONFIG]),
            weights=tensors_from_bytes(contents[WEIGHTS]),
            optimizer=tensors_from_bytes(contents[OPTIMIZER]) if OPTIMIZER in contents else {},
            state=json.loads(contents[STATE]),
        )
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be read ({error}); take another one") from error


def _write(path: Path, content: bytes) -> dict[str, Any]:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    return facts_of(content)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _portable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU copies that share no memory (safetensors refuses views)."""
    return {name: t.detach().to("cpu").clone().contiguous() for name, t in tensors.items()}


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
