"""The folder of a quickstart: how it is known and found, and what of it a new one replaces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from gemkr.errors import DataError
from gemkr.files import write_atomically

MARK = "quickstart.json"
"""Stands in a folder whose contents a quickstart made and may replace."""
RESULTS = (
    "data",
    "regions",
    "train",
    "clip",
    "bert",
    "preflmr",
    "llava",
    "vlm",
    "eval",
    "boxes.jsonl",
    "clues.jsonl",
    "corpus.fmi",
    "run.trec",
    "results.json",
)
FOLDER_VARIABLE = "GEMKR_QUICKSTART"
"""What the packaged configurations take from the environment."""


def claim_folder(folder: Path, seed: int) -> None:
    """Mark a folder as a quickstart's; DataError when it holds results that no quickstart left there."""
    strange = [name for name in RESULTS if (folder / name).exists()]
    if strange and not (folder / MARK).is_file():
        raise DataError(
            f"the output folder {folder} already holds {strange[0]!r}, which no quickstart made and this one would "
            "replace; choose another with -o"
        )
    write_atomically(folder / MARK, json.dumps({"seed": seed}) + "\n")


def clear_results(folder: Path) -> None:
    """Delete the folders of results that an earlier quickstart left."""
    for name in ("regions.part", *(name for name in RESULTS if "." not in name)):
        shutil.rmtree(folder / name, ignore_errors=True)
