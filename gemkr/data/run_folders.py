"""Which command's results an output folder holds, told by the files that each leaves there; so that no other writes among them.

Knows the names of these files only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gemkr.errors import DataError

TRAIN, PRETRAIN, READER = "gemkr train", "gemkr pretrain", "gemkr train-reader"
RETRIEVE = "gemkr eval or retrieve"
KINDS = {"gemkr": TRAIN, "contrastive": TRAIN, "reranker": TRAIN, "pretrain": PRETRAIN, "reader": READER}
"""The commands whose checkpoints say that they are of this kind."""


def owner_of(folder: str | Path) -> str | None:
    """The command that the results in a folder are of; None where there are none. A few files are looked at."""
    folder = Path(folder)
    for manifest in _manifests(folder):
        return KINDS.get(_kind_in(manifest), "another training")
    if (folder / "run.lock").is_file() and (folder / "model" / "config.json").is_file():
        return PRETRAIN  # of a run without a step, which leaves no checkpoint
    if (folder / "metrics.json").is_file() and (folder / "per_query.jsonl").is_file():
        return RETRIEVE
    return RETRIEVE if any(holds_run(place) for place in (folder, *_inside(folder))) else None


def require_own(folder: str | Path, command: str) -> None:
    """DataError when a folder holds the results of another command than `command`, or is a model or checkpoint itself."""
    if (Path(folder) / "config.json").is_file() and any(Path(folder).glob("*.safetensors")):
        raise DataError(
            f"the output folder {folder} is itself a model or checkpoint, which results would spoil; set output to another folder"
        )
    owner = owner_of(folder)
    if owner is not None and owner != command:
        raise DataError(
            f"the output folder {folder} holds the results of {owner}, not of {command}; set output to another folder"
        )


def _manifests(folder: Path) -> Iterator[Path]:
    """The manifests of the checkpoints in a folder."""
    for place in _inside(folder):
        if (place.name == "final" or place.name.startswith("step-")) and (place / "manifest.json").is_file():
            yield place / "manifest.json"


def _kind_in(manifest: Path) -> str | None:
    """The kind of a checkpoint; None where its manifest is damaged."""
    try:
        return json.loads(manifest.read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        return None


def holds_run(folder: Path) -> bool:
    """Whether a retriever has begun to answer into a folder."""
    return (folder / "run.jsonl").is_file() and (folder / "settings.json").is_file()


def _inside(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
