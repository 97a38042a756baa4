"""The two passes over a picture folder: boxes of every picture, then features of every box.

Both are resumable and name what they skip; each picture is computed by itself, as at question time (`extractor.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gemkr.errors import VisionError
from gemkr.progress import progress_bar
from gemkr.vision.boxes import BoxesWriter, PictureBoxes, read_boxes
from gemkr.vision.config import MARGIN
from gemkr.vision.crops import encode_boxes
from gemkr.vision.detect import Detector
from gemkr.vision.names import LISTED
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore
from gemkr.vision.store_writer import RegionStoreWriter

if TYPE_CHECKING:
    from gemkr.vision.encode import Tower


@dataclass
class Report:
    """What a pass did: pictures and boxes handled now, wall seconds, pictures skipped (id -> reason)."""

    pictures: int = 0
    boxes: int = 0
    seconds: float = 0.0
    resumed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def pictures_per_second(self) -> float:
        return self.pictures / self.seconds if self.seconds else 0.0


def detect_regions(
    detector: Detector,
    pictures: PictureFolder,
    output: str | Path,
    *,
    image_ids: Sequence[str] | None = None,
    batch: int = 8,
    skip_missing: bool = False,
) -> Report:
    """Write the boxes file of a picture folder (or of `image_ids`); goes on with an interrupted one.

    `batch` is the number of pictures between two saves; no digit depends on it. Of what that one has found, only these pictures are kept. VisionError names a missing or corrupt picture, unless
    `skip_missing` lists it in the report.
    """
    ids = pictures.ids() if image_ids is None else list(dict.fromkeys(image_ids))
    if not ids:
        raise VisionError(
            f"there are no pictures ({LISTED}) in {pictures.folder}; name the folder that holds them"
        )
    writer = BoxesWriter(output, detector.record.to_header(), set(ids))
    report = Report(resumed=len(writer.done))
    before, started = writer.count, time.perf_counter()
    rest = [image_id for image_id in ids if image_id not in writer.done]
    with progress_bar(total=len(ids), initial=len(ids) - len(rest), desc="detect", unit="picture") as bar:
        opened = pictures.open_all(rest, report.skipped if skip_missing else None)
        while chunk := list(islice(opened, batch)):
            writer.add(detector.detect([i for i, _ in chunk], [p for _, p in chunk]))
            report.pictures += len(chunk)
            bar.update(len(chunk))
    writer.finish()
    report.seconds = time.perf_counter() - started
    report.boxes = writer.count - before
    return report


def encode_regions(
    tower: Tower,
    pictures: PictureFolder,
    boxes: str | Path,
    output: str | Path,
    *,
    regions: int = 10,
    margin: float = MARGIN,
    batch: int = 32,
    device: str = "cpu",
    skip_missing: bool = False,
) -> tuple[RegionStore, Report]:
    """Crop and encode up to `regions` boxes of every picture of a boxes file into a region store.

    `batch` is about the number of crops between two saves; no digit depends on it. Goes on with an interrupted store.
    VisionError refuses an interrupted or finished store of other boxes, another tower or margin, and names a missing or corrupt
    picture, unless `skip_missing` leaves it out of the store and lists it in the report.
    """
    header, found = read_boxes(boxes)
    made_with = {key: value for key, value in header.items() if key != "format"}
    plan = made_with | {"encoder": tower.fingerprint, "margin": margin}
    writer = RegionStoreWriter(output, found, rows=regions, width=tower.width, plan=plan)
    report = Report(resumed=writer.done)
    started = time.perf_counter()
    tower = tower.to(device)
    with progress_bar(total=len(found), initial=writer.done, desc="encode", unit="picture") as bar:
        for chunk in _chunks(found[writer.done :], regions, batch):
            features: list[np.ndarray | None] = []
            for one in chunk:
                try:
                    picture = pictures.open(one.image)
                except VisionError as error:
                    if not skip_missing:
                        raise
                    report.skipped[one.image] = str(error)
                    features.append(None)
                    continue
                features.append(encode_boxes(tower, picture, one, regions, margin))
            writer.add(features)
            report.pictures += sum(f is not None for f in features)
            report.boxes += sum(len(f) for f in features if f is not None)
            bar.update(len(chunk))
    store = writer.finish()
    report.seconds = time.perf_counter() - started
    return store, report


def _chunks(found: Sequence[PictureBoxes], regions: int, batch: int) -> Iterator[list[PictureBoxes]]:
    """Pictures in lists that hold about `batch` crops, and at most `batch` pictures."""
    chunk: list[PictureBoxes] = []
    crops = 0
    for one in found:
        chunk.append(one)
        crops += min(len(one.boxes), regions)
        if crops >= batch or len(chunk) >= batch:
            yield chunk
            chunk, crops = [], 0
    if chunk:
        yield chunk
