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
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemkr.errors import VisionError
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.names import without_suffix
from gemkr.vision.record import DetectorRecord

FORMAT = 1
FEATURES, INDEX = "features.npy", "index.json"


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
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
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
        if digest(self.path / FEATURES) != self._digest:
            raise VisionError(
                f"the features of the region store {self.path} are damaged; encode the regions again"
            )


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


def digest(path: Path) -> str:
    """The hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
