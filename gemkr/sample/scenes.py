"""Draws planned scenes: one to three small flags on poles or walls, or one large flag, over a cluttered background.

A scene's picture follows from its plan and the seed alone, whatever else is drawn before or after.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from gemkr.sample.backgrounds import SIZE, background
from gemkr.sample.cloth import draw
from gemkr.sample.flag_table import FLAGS
from gemkr.sample.plan import Scene

SMALL_SIDE = (26, 40)
"""Longer side of a small flag's cloth, in pixels."""
LARGE_SIDE = (130, 178)
STEEL = (95, 95, 100)


@dataclass(frozen=True, slots=True)
class PlacedFlag:
    """One flag in a picture: half-open box (x0, y0, x1, y1) in pixels, and the name of its place."""

    country: str
    place: str
    box: tuple[int, int, int, int]


def render(scene: Scene, seed: int = 0) -> tuple[Image.Image, list[PlacedFlag]]:
    """The RGB picture of SIZE x SIZE and its flags from left to right; about 5 ms."""
    rng = np.random.default_rng([seed, zlib.crc32(scene.scene_id.encode())])
    picture = background(rng, clutter=int(rng.integers(0, 3 if scene.large else 5)))
    placed = []
    width = SIZE / len(scene.flags)
    for i, (country, place) in enumerate(zip(scene.flags, scene.places, strict=True)):
        cloth = draw(country, _height(country, LARGE_SIDE if scene.large else SMALL_SIDE, rng), rng)
        cloth = cloth.crop(cloth.getchannel("A").point(lambda a: 255 * (a > 64)).getbbox())
        x = _draw_between(i * width + 5, (i + 1) * width - cloth.width - 5, rng)
        y = _draw_between(8, (SIZE if scene.large else 125) - cloth.height - 8, rng)
        if rng.random() < 0.7:
            _pole(picture, x, y, scene.large, rng)
        picture.paste(cloth, (x, y), cloth)
        placed.append(PlacedFlag(country, place, (x, y, x + cloth.width, y + cloth.height)))
    return picture, placed


def _height(country: str, sides: tuple[int, int], rng: np.random.Generator) -> int:
    side = rng.uniform(*sides)
    return round(side / max(FLAGS[country][0], 1))


def _draw_between(low: float, high: float, rng: np.random.Generator) -> int:
    return round(rng.uniform(low, max(low, high)))


def _pole(picture: Image.Image, x: int, y: int, large: bool, rng: np.random.Generator) -> None:
    thick = 4 if large else 2
    canvas = ImageDraw.Draw(picture)
    foot = SIZE if large else min(SIZE, y + int(rng.integers(60, 100)))
    canvas.rectangle((x - thick, y - 4, x - 1, foot), fill=STEEL)
    canvas.ellipse((x - thick - 1, y - 8, x + 1, y - 4), fill=(200, 180, 90))
