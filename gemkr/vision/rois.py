"""The regions that FLMR's data sets name for the pictures of their questions, as a boxes file.

A row has the list `ROIs` of `img|||class_xmin_ymin_xmax_ymax` (pixels; a class may have underscores of its own).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.data.queries import IMAGE_NAMES
from gemkr.data.tables import table_rows
from gemkr.data.values import first_key
from gemkr.errors import VisionError
from gemkr.vision.boxes import BoxesWriter, PictureBoxes
from gemkr.vision.protocols import Pictures

ROIS = "ROIs"


def write_rois(path: str | Path, pictures: Pictures, output: str | Path) -> tuple[int, int]:
    """Write the boxes file of a table of questions (jsonl, parquet); returns the numbers of pictures and boxes. Of several rows of a
    picture the first counts. VisionError naming file and line for a region that cannot be read or lies outside of its picture, and
    for a table without regions; a missing picture is named too."""
    path = Path(path)
    found = list(_rows(path, pictures))
    if not found:
        raise VisionError(
            f"{path} has no row with a picture and {ROIS}; give a data set with regions of FLMR's"
        )
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    writer = BoxesWriter(output, {"detector": digest, "rois": path.name}, set())
    writer.add(found)
    writer.finish()
    return len(found), sum(len(one.boxes) for one in found)


def _rows(path: Path, pictures: Pictures) -> Iterator[PictureBoxes]:
    seen: set[str] = set()
    for line, row in table_rows(path):
        where = f"{path}:{line}"
        if isinstance(row, str):
            raise VisionError(f"{where}: {row}; correct the row")
        image = row.get(first_key(row, IMAGE_NAMES))
        if not isinstance(image, str) or not image or row.get(ROIS) is None or image in seen:
            continue
        seen.add(image)
        classes, boxes = [], []
        for text in row[ROIS]:
            name, box = _parsed(text, where)
            classes.append(name)
            boxes.append(box)
        size = pictures.open(image).size
        one = PictureBoxes(
            image, size, np.array(boxes, np.float32).reshape(-1, 4), tuple(classes), (1.0,) * len(boxes)
        )
        try:
            one.require_inside()
        except VisionError as error:
            raise VisionError(f"{where}: {error}") from error
        yield one


def _parsed(text: Any, where: str) -> tuple[str, list[float]]:
    """The class and the corners of one region."""
    parts = str(text).rpartition("|||")[2].rsplit("_", 4)
    try:
        return parts[0], [float(part) for part in parts[1:]] if len(parts) == 5 else [float("")]
    except ValueError:
        raise VisionError(
            f"{where}: the region {text!r} is not of the form img|||class_xmin_ymin_xmax_ymax; correct it"
        ) from None
