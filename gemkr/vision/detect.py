"""Object detection: the only door to ultralytics (AGPL-3.0, an optional dependency).

Takes decoded pictures, gives the best boxes of each. Knows nothing of files of boxes, towers or stores; never downloads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.overrides import TorchFunctionMode

from gemkr.errors import VisionError, first_line
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.config import DetectorConfig
from gemkr.vision.record import DetectorRecord

SUFFIXES = (".pt", ".yaml", ".yml")


class OneConvolution(TorchFunctionMode):
    """Lets every 2-d convolution on the CPU be computed by oneDNN.

    Left to itself, torch takes a kernel of its own for one picture on one thread and oneDNN's for sixteen pictures or
    several threads, and boxes differ in their last digits between those.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.conv2d and len(args) == 7 and not isinstance(args[4], str) and not kwargs:
            x, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
        return function(*args, **(kwargs or {}))


class Detector:
    """A YOLO model of any ultralytics weights file (.pt), or of a model yaml with random weights.

    `config.weights` is made absolute; `record` is what files say of the detector.
    """

    def __init__(self, config: DetectorConfig, device: str = "cpu") -> None:
        """Raises VisionError when ultralytics is not installed, the file is missing, or it is no detector."""
        if config.weights is None:
            raise VisionError("the detector has no weights; set them to a .pt or .yaml file of ultralytics")
        path = Path(os.path.abspath(config.weights))
        self.config = replace(config, weights=str(path))
        self.device = device
        self._threads: int | None = None
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
        weights_sha256 = digest.hexdigest()
        settings = {
            "regions": int(config.regions),
            "confidence": float(config.confidence),
            "overlap": float(config.overlap),
            "image_size": int(config.image_size),
        }
        digest.update(json.dumps(settings, sort_keys=True).encode())
        self.record = DetectorRecord(digest.hexdigest(), self.config, weights_sha256, config.margin)

    def detect(self, image_ids: Sequence[str], pictures: Sequence[Image.Image]) -> list[PictureBoxes]:
        """The boxes of each picture, largest confidence x area first; a picture may have none.

        Each picture is a pass of its own, brought to one square size, so that its boxes do not depend on which others
        are given with it. Boxes have the hundredths of a pixel that a boxes file keeps, scores four digits.
        """
        if not pictures:
            return []
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        one_kernel = self.device == "cpu" and torch.backends.mkldnn.is_available()
        with OneConvolution() if one_kernel else nullcontext():
            results = self._model.predict(
                list(pictures),
                batch=1,
                conf=self.config.confidence,
                iou=self.config.overlap,
                imgsz=self.config.image_size,
                agnostic_nms=True,
                max_det=300,
                rect=False,
                device=self.device,
                verbose=False,
                save=False,
            )
        self._threads = torch.get_num_threads()  # ultralytics sets them once, at its first pass
        found = []
        for image_id, picture, result in zip(image_ids, pictures, results, strict=True):
            boxes = result.boxes.xyxy.cpu().numpy().astype(np.float32)
            scores = result.boxes.conf.cpu().numpy().astype(np.float64)
            classes = result.boxes.cls.cpu().numpy().astype(np.int64)
            best = best_rows(boxes, scores, self.config.regions)
            names = tuple(self._model.names[int(c)] for c in classes[best])
            rounded = tuple(round(float(s), 4) for s in scores[best])
            found.append(PictureBoxes(image_id, picture.size, boxes[best], names, rounded).rounded())
        return found


def best_rows(boxes: np.ndarray, scores: np.ndarray, regions: int) -> np.ndarray:
    """int64[<= regions]: rows by score x area (boxes float[n, 4] xyxy), largest first; equal ones in their order."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.argsort(-scores * areas, kind="stable")[:regions]
