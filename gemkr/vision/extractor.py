"""The regions of one decoded picture, found and encoded by the functions that make a store offline.

For the same picture, detector, settings and tower (same device, same versions) they are equal to a store's to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from gemkr.errors import VisionError
from gemkr.vision.crops import encode_boxes
from gemkr.vision.detect import Detector
from gemkr.vision.record import require_same_detector
from gemkr.vision.store import PictureRegions, RegionStore, as_stored

if TYPE_CHECKING:
    from gemkr.vision.encode import Tower


class RegionExtractor:
    """From one decoded picture to what a region store would hold of it; without a tower to its boxes alone, for models that are
    shown crops. `width` and `encoder` are those of the features."""

    def __init__(
        self, detector: Detector, tower: Tower | None, rows: int | None = None, device: str = "cpu"
    ) -> None:
        """`rows` is R, the most regions a picture may have; the detector's number unless given.

        The tower computes where it is. VisionError when its weights are not float32: stores are made with those.
        """
        if tower is not None and tower.dtype != torch.float32:
            raise VisionError(
                f"the vision tower has {str(tower.dtype).removeprefix('torch.')} weights, region features are made with "
                "float32 ones; load it again for the regions"
            )
        self.detector = detector
        self.tower = tower
        self.width, self.encoder = (0, "") if tower is None else (tower.width, tower.fingerprint)
        self.rows = detector.config.regions if rows is None else rows

    @classmethod
    def like(
        cls, store: RegionStore, tower: Tower | None, weights: str | None = None, device: str = "cpu"
    ) -> RegionExtractor:
        """The extractor that a store was made with, configured from the store; `weights` where the file lies elsewhere now, `device` the
        detector's.

        VisionError when the store does not know its detector's settings (earlier versions), when the weights are not
        there or other ones, or when the store's features come from another tower.
        """
        config = store.detector.config
        if config is None:
            raise VisionError(
                f"the region store {store.path} does not record its detector's settings; encode its regions again, or "
                "configure the detector"
            )
        extractor = cls(
            Detector(config if weights is None else replace(config, weights=weights), device),
            tower,
            store.rows,
            device,
        )
        extractor.require_like(store)
        return extractor

    def require_like(self, store: RegionStore) -> None:
        """VisionError unless a store holds what this extractor makes: same detector, settings, margin, rows, and tower."""
        require_same_detector(store.detector, self.detector.record, store.path)
        if self.tower is None:
            return
        if (store.rows, store.width) != (self.rows, self.tower.width):
            raise VisionError(
                f"the region store {store.path} holds {store.rows} regions of width {store.width}, online ones are "
                f"{self.rows} of width {self.tower.width}; set the number of regions to the store's"
            )
        if store.encoder != self.tower.fingerprint:
            raise VisionError(
                f"the region features of {store.path} come from the tower {store.encoder[:12]}, online ones from "
                f"{self.tower.fingerprint[:12]}; use one tower for both"
            )

    def __call__(self, image_id: str, picture: Image.Image) -> PictureRegions:
        """The regions of a decoded picture (RGB, upright)."""
        with _kept_threads():
            (found,) = self.detector.detect([image_id], [picture])
        if self.tower is None:
            features = np.zeros((min(len(found.boxes), self.rows), 0), np.float32)
        else:
            features = encode_boxes(self.tower, picture, found, self.rows, self.detector.config.margin)
        n = len(features)
        rows = as_stored(features, self.rows, image_id)
        return PictureRegions(rows, n, found.boxes[:n], found.size, found.classes[:n], found.scores[:n])


@contextmanager
def _kept_threads() -> Iterator[None]:
    """Torch's number of threads as it was: detection sets its own, the language model beside it keeps the process's."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
