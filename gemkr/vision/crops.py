"""From a picture and its boxes to region features: crops and one pass of the tower, the same offline and online."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from gemkr.errors import VisionError
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.config import MARGIN

if TYPE_CHECKING:
    from gemkr.vision.encode import Tower


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
def encode_boxes(
    tower: Tower, picture: Image.Image, found: PictureBoxes, regions: int, margin: float
) -> np.ndarray:
    """float32[count, width]: the features of the first `regions` boxes, in their order.

    A picture's crops are one pass of their own: its features then do not depend on which pictures are encoded with it,
    whatever kernels a shape is computed by. The tower's weights are float32.
    """
    pixels = [tower.preprocess(crop) for crop in crop_boxes(picture, found, regions, margin)]
    if not pixels:
        return np.zeros((0, tower.width), np.float32)
    return tower(torch.stack(pixels).to(tower.device)).float().cpu().numpy()
