"""Pictures with their boxes drawn, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = (
    "#e6194b",
    "#3cb44b",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#008080",
    "#9a6324",
    "#800000",
    "#808000",
    "#000075",
)


def draw_boxes(picture: Image.Image, boxes: np.ndarray, labels: Sequence[str]) -> Image.Image:
    """A copy of an RGB picture with boxes (float[n, 4], xyxy in pixels) and their labels drawn, best box on top."""
    drawn = picture.copy()
    canvas = ImageDraw.Draw(drawn)
    size = max(10, round(min(picture.size) / 30))
    font = ImageFont.load_default(size)
    for number in reversed(range(len(boxes))):
        x0, y0, x1, y1 = (float(x) for x in boxes[number])
        colour = COLOURS[number % len(COLOURS)]
        canvas.rectangle((x0, y0, x1, y1), outline=colour, width=max(1, size // 6))
        place = (x0 + 1, max(0.0, y0 - size - 3))
        canvas.rectangle(canvas.textbbox(place, labels[number], font=font), fill=colour)
        canvas.text(place, labels[number], fill="white", font=font)
    return drawn
