"""Object detection: the only door to ultralytics (AGPL-3.0, an optional dependency).

Takes decoded pictures, gives the best boxes of each. Knows nothing of files of boxes, towers or stores; never downloads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gemkr.errors import VisionError, first_line
from gemkr.vision.boxes import PictureBoxes

SUFFIXES = (".pt", ".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """Up to `regions` boxes of at least `confidence`; class-agnostic NMS at IoU `overlap`; pictures at `image_size`."""

    regions: int = 10
    confidence: float = 0.1
    overlap: float = 0.6
    image_size: int = 640


class Detector:
    """A YOLO model of any ultralytics weights file (.pt), or of a model yaml with random weights."""

    def __init__(
        self, weights: str | Path, settings: DetectorSettings | None = None, device: str = "cpu"
    ) -> None:
        """Raises VisionError when ultralytics is not installed, the file is missing, or it is no detector."""
        self.settings = settings or DetectorSettings()
        self.device = device
        path = Path(weights)
        if not path.is_file():
            wrong = "are a folder" if path.is_dir() else "do not exist"
            raise VisionError(
                f"the detector's weights {path} {wrong}; give a .pt or .yaml file of ultralytics"
            )
        if path.suffix not in SUFFIXES:
            raise VisionError(
                f"the detector's weights {path} end in {path.suffix!r}, not in {' or '.join(SUFFIXES)}; give a file of "
                "ultralytics"
            )
        os.environ.setdefault("YOLO_OFFLINE", "true")
        os.environ.setdefault("YOLO_AUTOINSTALL", "false")
        open_picture = Image.open
        try:
            from ultralytics import YOLO
        except ImportError as error:
            raise VisionError(
                "detection needs ultralytics; install it with pip install 'gemkr[yolo]'"
            ) from error
        finally:
            Image.open = open_picture  # ultralytics puts one in its place that wants to install plugins
        try:
            self._model = YOLO(str(path), verbose=False)
        except Exception as error:  # whatever unpickling a foreign file raises
            raise VisionError(
                f"the detector's weights {path} cannot be loaded: {first_line(error)}"
            ) from error
        if self._model.task != "detect":
            raise VisionError(f"{path} is a model for {self._model.task!r}, not for 'detect'")
        digest = hashlib.sha256(path.read_bytes())
        digest.update(json.dumps(asdict(self.settings), sort_keys=True).encode())
        self.fingerprint = digest.hexdigest()

    def detect(self, image_ids: Sequence[str], pictures: Sequence[Image.Image]) -> list[PictureBoxes]:
        """The boxes of each picture, largest confidence x area first; a picture may have none.

        All pictures are brought to one square size, so that boxes do not depend on which pictures share a batch.
        """
        if not pictures:
            return []
        results = self._model.predict(
            list(pictures),
            batch=len(pictures),
            conf=self.settings.confidence,
            iou=self.settings.overlap,
            imgsz=self.settings.image_size,
            agnostic_nms=True,
            max_det=300,
            rect=False,
            device=self.device,
            verbose=False,
            save=False,
        )
        found = []
        for image_id, picture, result in zip(image_ids, pictures, results, strict=True):
            boxes = result.boxes.xyxy.cpu().numpy().astype(np.float32)
            scores = result.boxes.conf.cpu().numpy().astype(np.float64)
            classes = result.boxes.cls.cpu().numpy().astype(np.int64)
            best = best_rows(boxes, scores, self.settings.regions)
            names = tuple(self._model.names[int(c)] for c in classes[best])
            rounded = tuple(round(float(s), 4) for s in scores[best])
            found.append(PictureBoxes(image_id, picture.size, boxes[best], names, rounded))
        return found


def best_rows(boxes: np.ndarray, scores: np.ndarray, regions: int) -> np.ndarray:
    """int64[<= regions]: rows by score x area (boxes float[n, 4] xyxy), largest first; equal ones in their order."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.argsort(-scores * areas, kind="stable")[:regions]
