"""Writes a region store: in `NAME.part`, in order and resumable, renamed when whole (`store.py` has the format)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import VisionError
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.store import FEATURES, FORMAT, INDEX, RegionStore, as_stored, digest

PROGRESS = "progress.json"
DIFFERENT = {
    "detector": "boxes of another detector or of other detector settings",
    "encoder": "another tower",
    "margin": "the margin",
    "shape": "the shape",
    "pictures_sha256": "other boxes",
}
"""How messages call the parts of a plan."""


class RegionStoreWriter:
    """Builds a store row by row; `done` rows of an interrupted build with the same plan are kept."""

    def __init__(
        self,
        path: str | Path,
        pictures: Sequence[PictureBoxes],
        *,
        rows: int,
        width: int,
        plan: dict[str, Any],
    ) -> None:
        """`plan` says what the features are made with: `detector` and what else a boxes file says of it, `encoder`, `margin`.

        Raises VisionError when a finished store is there already, or an interrupted one with another plan or other
        boxes, or the place cannot be written.
        """
        self.path = Path(path)
        ids = [picture.image for picture in pictures]
        if not ids:
            raise VisionError(
                f"there are no pictures to make the region store {self.path} of; detect regions first"
            )
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise VisionError(f"the picture {twice!r} has boxes twice; remove one of the two rows")
        self.pictures = list(pictures)
        self.plan = json.loads(json.dumps(plan | {"shape": [len(ids), rows, width]}))
        self.part = self.path.with_name(self.path.name + ".part")
        ids_digest = hashlib.sha256(json.dumps([p.to_row() for p in pictures]).encode()).hexdigest()
        self._identity = self.plan | {"pictures_sha256": ids_digest}
        self._require_free()
        self.done, self._skipped = self._left_over()
        try:
            self.part.mkdir(parents=True, exist_ok=True)
            if self.done == 0:
                (self.part / PROGRESS).unlink(missing_ok=True)
            self._features = np.lib.format.open_memmap(
                self.part / FEATURES,
                mode="r+" if self.done else "w+",
                dtype=np.float16,
                shape=None if self.done else tuple(self.plan["shape"]),
            )
        except OSError as error:
            raise VisionError(
                f"the region store {path} cannot be written: {error.strerror}; choose another place"
            ) from error

    def add(self, features: Sequence[np.ndarray | None]) -> None:
        """Features float[count, width] of the next pictures, in the order of `pictures`; safe on the disk afterwards.

        None leaves a picture out of the store. VisionError names a picture with a feature that float16 cannot hold;
        none of the features are taken then.
        """
        rows = [self._row(self.done + i, one) for i, one in enumerate(features)]
        for row in rows:
            if row is None:
                self._skipped.append(self.done)
            else:
                self._features[self.done] = row
            self.done += 1
        self._features.flush()
        _write_json(self.part / PROGRESS, self._identity | {"done": self.done, "skipped": self._skipped})

    def _row(self, number: int, features: np.ndarray | None) -> np.ndarray | None:
        if features is None:
            return None
        return as_stored(features, self._features.shape[1], self.pictures[number].image)

    def finish(self) -> RegionStore:
        """Write the index and give the store its name."""
        if self.done != len(self.pictures):
            raise VisionError(
                f"the region store {self.path} has {self.done} of {len(self.pictures)} pictures; add the rest"
            )
        self._features.flush()
        del self._features
        rows, skipped = self.plan["shape"][1], set(self._skipped)
        index = {"format": FORMAT, **self.plan, "features_sha256": digest(self.part / FEATURES)}
        index["pictures"] = [
            _cut(picture, rows).to_row() | {"row": number}
            for number, picture in enumerate(self.pictures)
            if number not in skipped
        ]
        _write_json(self.part / INDEX, index)
        (self.part / PROGRESS).unlink(missing_ok=True)
        os.replace(self.part, self.path)
        return RegionStore.open(self.path)

    def _require_free(self) -> None:
        """VisionError when another store is at this place, finished or interrupted."""
        if self.path.exists():
            other = _differences(_read_json(self.path / INDEX), self.plan)
            made = f" and was made with {other}" if other else ""
            raise VisionError(
                f"{self.path} exists already{made}; delete it, or choose another place for the region store"
            )
        progress = _read_json(self.part / PROGRESS)
        other = _differences(progress, self._identity)
        if other:
            raise VisionError(
                f"the interrupted region store {self.part} was made with {other}; delete it, or choose another place for "
                "the region store"
            )

    def _left_over(self) -> tuple[int, list[int]]:
        """How many rows of an interrupted build with the same plan are there, and which of them were left out."""
        try:
            progress = json.loads((self.part / PROGRESS).read_text(encoding="utf-8"))
            features = np.load(self.part / FEATURES, mmap_mode="r", allow_pickle=False)
        except (OSError, EOFError, ValueError):
            return 0, []
        done, skipped = progress.pop("done", 0), progress.pop("skipped", [])
        same = progress == self._identity and list(features.shape) == self.plan["shape"]
        return (done, skipped) if same else (0, [])


def _differences(made: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What of its plan distinguishes a store that is there from the wanted one, such as `margin 0.1 instead of 0.05`."""
    found = []
    for key, what in DIFFERENT.items():
        if key in made and key in wanted and made[key] != wanted[key]:
            values = f" {made[key]} instead of {wanted[key]}" if key in ("margin", "shape") else ""
            found.append(f"{what}{values}")
    return ", ".join(found)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a json file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _cut(picture: PictureBoxes, rows: int) -> PictureBoxes:
    return PictureBoxes(
        picture.image, picture.size, picture.boxes[:rows], picture.classes[:rows], picture.scores[:rows]
    )


def _write_json(path: Path, value: Any) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
