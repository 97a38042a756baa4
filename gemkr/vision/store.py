"""The region store: one memory-mapped file of region features for a whole data set, with a json index.

A store is a folder: `features.npy` float16[N, R, width] and `index.json`. It is built in `NAME.part`, in order and
resumable, and renamed when whole. Nothing is pickled. Knows no model: features come and go as arrays.

`index.json` records `detector` (fingerprint of weights and settings), `settings` (regions, confidence, overlap,
image_size), `weights` (file and sha256), `encoder` (fingerprint of the tower), `margin`, `shape`, and the boxes of each
picture. `settings` and `weights` are absent, which means unknown, in stores of earlier versions; those still open.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemkr.errors import VisionError
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.names import without_suffix
from gemkr.vision.record import DetectorRecord

FORMAT = 1
FEATURES, INDEX, PROGRESS = "features.npy", "index.json", "progress.json"
DIFFERENT = {
    "detector": "boxes of another detector or of other detector settings",
    "encoder": "another tower",
    "margin": "the margin",
    "shape": "the shape",
    "pictures_sha256": "other boxes",
}
"""How messages call the parts of a plan."""


class PictureRegions(NamedTuple):
    """One picture: `features` float16[R, width], zero at and beyond `count`; `boxes` float32[count, 4] in pixels.

    `size` is the picture's (width, height); `classes` and `scores` are the detector's.
    """

    features: np.ndarray
    count: int
    boxes: np.ndarray
    size: tuple[int, int]
    classes: tuple[str, ...]
    scores: tuple[float, ...]


class RegionStore:
    """A finished store, read-only; many processes may read it at once.

    `detector` is what it records of the detector of its boxes (settings unknown in a store of an earlier version),
    `encoder` the fingerprint of the tower of its features. An image id that is not in the store is looked up once more
    without its file suffix: `holiday.jpg` finds the picture `holiday`.
    """

    def __init__(self, path: Path, features: np.ndarray, index: dict[str, Any]) -> None:
        self.path = path
        self.detector = DetectorRecord.from_header(index)
        self.encoder: str = index["encoder"]
        self._features = features
        self._digest: str = index["features_sha256"]
        self._rows = {row["image"]: row for row in index["pictures"]}

    @staticmethod
    def open(path: str | Path) -> RegionStore:
        """Map a store, O(index). Raises VisionError when it is missing, unfinished, damaged or of another format."""
        path = Path(path)
        if not (path / INDEX).is_file():
            unfinished = path.with_name(path.name + ".part")
            hint = (
                "its building was interrupted; run the same command again"
                if unfinished.is_dir()
                else ("make it with `gemkr regions encode`")
            )
            raise VisionError(f"there is no region store at {path}; {hint}")
        try:
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
            if index["format"] != FORMAT:
                raise VisionError(
                    f"the region store {path} has format {index['format']}, this program reads {FORMAT}"
                )
            features = np.load(path / FEATURES, mmap_mode="r", allow_pickle=False)
            shape = tuple(index["shape"])
            if features.shape != shape or features.dtype != np.float16 or len(index["pictures"]) > shape[0]:
                raise VisionError(
                    f"the region store {path} is damaged: its features are {features.dtype}{list(features.shape)}, its index "
                    f"says float16{list(shape)}; encode the regions again"
                )
            return RegionStore(path, features, index)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VisionError(
                f"the region store {path} is damaged ({error}); encode the regions again"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return RegionStore.open, (self.path,)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image_id: str) -> bool:
        return self._row(image_id) is not None

    @property
    def rows(self) -> int:
        """R, the most regions a picture may have."""
        return self._features.shape[1]

    @property
    def width(self) -> int:
        return self._features.shape[2]

    @property
    def image_ids(self) -> list[str]:
        return list(self._rows)

    def get(self, image_id: str) -> PictureRegions:
        """The regions of a picture, copied out of the map; VisionError names a picture that has none here."""
        row = self._row(image_id)
        if row is None:
            raise VisionError(
                f"the picture {image_id!r} has no region features in {self.path}, which holds {len(self)} pictures; run "
                "`gemkr regions detect` and `encode` over it"
            )
        found = PictureBoxes.from_row(row)
        count = min(len(found.boxes), self.rows)
        features = np.zeros(self._features.shape[1:], np.float16)
        features[:count] = self._features[row["row"], :count]
        return PictureRegions(
            features, count, found.boxes[:count], found.size, found.classes[:count], found.scores[:count]
        )

    def _row(self, image_id: str) -> dict[str, Any] | None:
        if image_id in self._rows:
            return self._rows[image_id]
        stem = without_suffix(image_id)
        return None if stem is None else self._rows.get(stem)

    def verify(self) -> None:
        """Read every byte; VisionError when the features are not those that were written."""
        if _digest(self.path / FEATURES) != self._digest:
            raise VisionError(
                f"the features of the region store {self.path} are damaged; encode the regions again"
            )


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
        index = {"format": FORMAT, **self.plan, "features_sha256": _digest(self.part / FEATURES)}
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
        except (OSError, ValueError):
            return 0, []
        done, skipped = progress.pop("done", 0), progress.pop("skipped", [])
        same = progress == self._identity and list(features.shape) == self.plan["shape"]
        return (done, skipped) if same else (0, [])


def as_stored(features: np.ndarray, rows: int, image_id: str) -> np.ndarray:
    """float[count, width] as a store keeps them: float16[rows, width], zero at and beyond `count`.

    VisionError names the picture when a feature is not finite in float16.
    """
    row = np.zeros((rows, features.shape[1]), np.float16)
    with np.errstate(over="ignore"):
        row[: len(features)] = features
    bad = ~np.isfinite(row[: len(features)])
    if bad.any():
        raise VisionError(
            f"the picture {image_id!r} has a region feature of {features[bad][0]:g}, a region store holds finite numbers up "
            f"to {np.finfo(np.float16).max:g}; correct the tower's weights or depth"
        )
    return row


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


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
