"""The folder of a centroid index: its arrays, and a manifest without which nobody reads it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from gemkr.files import write_atomically
from gemkr.vector_index.npy_files import write_array
from gemkr.vector_index.token_codec import ResidualCodec

MANIFEST = "index.json"
FORMAT = "centroids 2"


def part_name(number: int) -> str:
    """The folder of the documents that were added as number `number`."""
    return f"part-{number:04d}"


def describe(folder: Path, codec: ResidualCodec, parts: int, outside: int, deleted: np.ndarray) -> None:
    """Write what the folder lacks to be an index: which documents are deleted (bool[n]), and the manifest."""
    write_array(folder / "deleted.npy", deleted)
    record = {
        "format": FORMAT,
        "parts": parts,
        "unit": codec.unit,
        "far": codec.far,
        "outside": outside,
    }
    write_atomically(folder / MANIFEST, json.dumps(record) + "\n")


def put_in_place(new: Path, folder: Path) -> None:
    """Give a written folder its name, in the place of an earlier state. OSError."""
    old = _earlier(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def standing(folder: Path) -> Path:
    """Where an index lies: under its name, or as an earlier state where `put_in_place` was stopped before another had the name."""
    old = _earlier(folder)
    return old if old.exists() and not folder.exists() else folder


def _earlier(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
