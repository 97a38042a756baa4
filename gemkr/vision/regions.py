"""The two passes over a picture folder: boxes of every picture, then features of every box.

Both are batched, resumable, and name what they pass over. Knows no command line and prints nothing but a progress bar.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from gemkr.errors import VisionError
from gemkr.progress import progress_bar
from gemkr.vision.boxes import BoxesWriter, PictureBoxes, read_boxes
from gemkr.vision.detect import Detector
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore, RegionStoreWriter

if TYPE_CHECKING:
    from gemkr.vision.encode import Tower

MARGIN = 0.05
"""Share of a box's width and height that its crop shows beyond each side."""


@dataclass
class Report:
    """What a pass did: pictures and boxes handled now, wall seconds, pictures passed over (id -> reason)."""

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

    Of what that one has found, only these pictures are kept. VisionError names a missing or corrupt picture, unless
    `skip_missing` lists it in the report.
    """
    ids = pictures.ids() if image_ids is None else list(dict.fromkeys(image_ids))
    if not ids:
        raise VisionError(f"there are no pictures (.jpg, .jpeg, .png, .webp) in {pictures.folder}")
    header = {"detector": detector.fingerprint, "settings": asdict(detector.settings)}
    writer = BoxesWriter(output, header, set(ids))
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

    `batch` is the number of crops per tower pass; goes on with an interrupted store. VisionError names a missing or
    corrupt picture, unless `skip_missing` leaves it out of the store and lists it in the report.
    """
    header, found = read_boxes(boxes)
    plan = {"detector": header["detector"], "encoder": tower.fingerprint, "margin": margin}
    writer = RegionStoreWriter(output, found, rows=regions, width=tower.width, plan=plan)
    report = Report(resumed=writer.done)
    started = time.perf_counter()
    tower = tower.to(device)
    with progress_bar(total=len(found), initial=writer.done, desc="encode", unit="picture") as bar:
        for chunk in _chunks(found[writer.done :], regions, batch):
            crops: list[list[torch.Tensor] | None] = []
            for one in chunk:
                try:
                    picture = pictures.open(one.image)
                except VisionError as error:
                    if not skip_missing:
                        raise
                    report.skipped[one.image] = str(error)
                    crops.append(None)
                    continue
                crops.append([tower.preprocess(crop) for crop in crop_boxes(picture, one, regions, margin)])
            writer.add(_encode(tower, crops, batch, device))
            report.pictures += sum(c is not None for c in crops)
            report.boxes += sum(len(c) for c in crops if c is not None)
            bar.update(len(chunk))
    store = writer.finish()
    report.seconds = time.perf_counter() - started
    return store, report


def crop_boxes(
    picture: Image.Image, found: PictureBoxes, regions: int, margin: float = MARGIN
) -> Iterator[Image.Image]:
    """The crops of the first `regions` boxes, each widened by `margin` and cut at the picture's edges.

    VisionError when the picture is not of the size that the boxes were found in.
    """
    if picture.size != found.size:
        raise VisionError(
            f"the picture {found.image!r} is {picture.size[0]}x{picture.size[1]} pixels, its boxes were found in one of "
            f"{found.size[0]}x{found.size[1]}; detect regions again"
        )
    for x0, y0, x1, y1 in found.boxes[:regions].astype(np.float64):
        dx, dy = margin * (x1 - x0), margin * (y1 - y0)
        left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
        left, top = min(left, picture.width - 1), min(top, picture.height - 1)
        right = min(picture.width, max(left + 1, round(x1 + dx)))
        bottom = min(picture.height, max(top + 1, round(y1 + dy)))
        yield picture.crop((left, top, right, bottom))


@torch.inference_mode()
def _encode(
    tower: Tower, crops: Iterable[list[torch.Tensor] | None], batch: int, device: str
) -> list[np.ndarray | None]:
    """float32[count, width] for each picture, None for one that was passed over."""
    crops = list(crops)
    flat = [crop for one in crops if one is not None for crop in one]
    parts = [tower(torch.stack(flat[i : i + batch]).to(device)) for i in range(0, len(flat), batch)]
    states = torch.cat(parts).float().cpu().numpy() if parts else np.zeros((0, tower.width), np.float32)
    features: list[np.ndarray | None] = []
    start = 0
    for one in crops:
        stop = start + (len(one) if one is not None else 0)
        features.append(None if one is None else states[start:stop])
        start = stop
    return features


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
