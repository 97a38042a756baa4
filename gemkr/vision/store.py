"""The region store: one memory-mapped file of region features for a whole data set, with a json index.

A store is a folder: `features.npy` float16[N, R, width] and `index.json`. It is built in `NAME.part`, in order and
resumable, and renamed when whole. Nothing is pickled. Knows no model: features come and go as arrays.
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

FORMAT = 1
FEATURES, INDEX, PROGRESS = "features.npy", "index.json", "progress.json"


class Regions(NamedTuple):
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
    """A finished store, read-only; many processes may read it at once."""

    def __init__(self, path: Path, features: np.ndarray, index: dict[str, Any]) -> None:
        self.path = path
        self.detector: str = index["detector"]
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
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VisionError(
                f"the region store {path} is damaged ({error}); encode the regions again"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return RegionStore.open, (self.path,)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

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

    def get(self, image_id: str) -> Regions:
        """The regions of a picture, copied out of the map; VisionError names a picture that has none here."""
        if image_id not in self._rows:
            raise VisionError(
                f"the picture {image_id!r} has no region features in {self.path}, which holds {len(self)} pictures; run "
                "`gemkr regions detect` and `encode` over it"
            )
        row = self._rows[image_id]
        found = PictureBoxes.from_row(row)
        count = min(len(found.boxes), self.rows)
        features = np.zeros(self._features.shape[1:], np.float16)
        features[:count] = self._features[row["row"], :count]
        return Regions(
            features, count, found.boxes[:count], found.size, found.classes[:count], found.scores[:count]
        )

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
        """`plan` says what the features are made with: `detector`, `encoder` and settings.

        Raises VisionError when a finished store is there already, or the place cannot be written.
        """
        self.path = Path(path)
        if self.path.exists():
            raise VisionError(
                f"{self.path} exists already; delete it, or choose another place for the region store"
            )
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
        """float16[R, width], zero beyond the features given; VisionError when one is not finite there."""
        if features is None:
            return None
        row = np.zeros(self._features.shape[1:], np.float16)
        with np.errstate(over="ignore"):
            row[: len(features)] = features
        bad = ~np.isfinite(row[: len(features)])
        if bad.any():
            raise VisionError(
                f"the picture {self.pictures[number].image!r} has a region feature of {features[bad][0]:g}, a region store holds "
                f"finite numbers up to {np.finfo(np.float16).max:g}; correct the tower's weights or depth"
            )
        return row

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
