"""Boxes drawn by a seed, their file, and a detector small enough to be built in a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gemkr.vision.boxes import BoxesWriter, PictureBoxes

TINY_YOLO = """
nc: 3
scales: {n: [0.33, 0.125, 1024]}
backbone:
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [128, 3, 2]]
  - [-1, 1, Conv, [256, 3, 2]]
head:
  - [[2], 1, Detect, [nc]]
"""


def some_boxes(name: str, n: int) -> PictureBoxes:
    rng = np.random.default_rng(n)
    corners = np.sort(rng.uniform(0, 50, (n, 2, 2)), axis=1).reshape(n, 4)
    return PictureBoxes(name, (70, 50), corners.astype(np.float32), ("x",) * n, (0.5,) * n)


def write_boxes(path: Path, rows: list[PictureBoxes]) -> Path:
    writer = BoxesWriter(path, {"detector": "abc"})
    writer.add(rows)
    writer.finish()
    return path
