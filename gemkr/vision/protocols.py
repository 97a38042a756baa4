"""What a model reads of pictures: pictures by image id and the region features of each, wherever they come from.

`PictureFolder` and `RegionStore` are the offline sources, `OnlinePictures` and its `regions` those at question time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from PIL import Image

from gemkr.vision.store import PictureRegions


class Pictures(Protocol):
    """Pictures by image id."""

    @property
    def folder(self) -> Path | str:
        """Where they lie, for messages."""
        ...

    def open(self, image_id: str) -> Image.Image:
        """The decoded picture, RGB, upright; VisionError names one that is missing or corrupt."""
        ...

    def check(self, image_id: str) -> None:
        """VisionError, as `open` raises it; several threads may call it."""
        ...

    def path(self, image_id: str) -> Path:
        """Its file; VisionError names one that is missing or has none."""
        ...

    def __contains__(self, image_id: str) -> bool: ...


class Regions(Protocol):
    """Region features by image id."""

    @property
    def path(self) -> Path | str:
        """Where they lie, for messages."""
        ...

    @property
    def width(self) -> int:
        """The size of one feature."""
        ...

    @property
    def encoder(self) -> str:
        """The fingerprint of the tower that made them."""
        ...

    def get(self, image_id: str) -> PictureRegions:
        """The regions of one picture; VisionError names one that has none here."""
        ...

    def __contains__(self, image_id: str) -> bool: ...
