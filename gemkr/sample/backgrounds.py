"""Places where flags hang: a street, a brick wall, a field, a harbour; with clutter in the colours of flags.

Draws everything but the flags, in light that differs from picture to picture.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIZE = 200
"""Width and height of a scene in pixels."""
GAUDY = (
    (206, 17, 38),
    (0, 122, 61),
    (0, 56, 168),
    (252, 209, 22),
    (250, 250, 250),
    (20, 20, 20),
    (255, 136, 32),
)
Colour = tuple[int, int, int]


def background(rng: np.random.Generator, clutter: int) -> Image.Image:
    """An RGB picture of SIZE x SIZE with `clutter` coloured objects; no flag in it."""
    kind = rng.integers(4)
    picture = (_street, _wall, _field, _harbour)[kind](rng)
    draw = ImageDraw.Draw(picture)
    for _ in range(clutter):
        (_car, _poster, _awning, _balloon, _sign)[rng.integers(5)](draw, rng)
    pixels = np.asarray(picture, np.float32)
    pixels = pixels * rng.uniform(0.8, 1.1) + rng.normal(0, rng.uniform(2, 6), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _mix(rng: np.random.Generator, *choices: Colour) -> Colour:
    base = np.array(choices[rng.integers(len(choices))]) + rng.integers(-18, 19, 3)
    red, green, blue = np.clip(base, 0, 255).tolist()
    return red, green, blue


def _gaudy(rng: np.random.Generator) -> Colour:
    return _mix(rng, *GAUDY)


def _sky(rng: np.random.Generator) -> Image.Image:
    top = np.array(_mix(rng, (90, 150, 220), (130, 170, 210), (180, 190, 200), (230, 170, 130)), np.float32)
    low = np.minimum(top + rng.uniform(15, 70), 255)
    share = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None, None]
    pixels = np.broadcast_to(top * (1 - share) + low * share, (SIZE, SIZE, 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 4)):
        x, y, w = rng.integers(0, SIZE), rng.integers(0, 90), rng.integers(20, 60)
        draw.ellipse(
            (x - w, y - w // 4, x + w, y + w // 4), fill=tuple(int(c) for c in np.minimum(low + 25, 255))
        )
    return picture


def _street(rng: np.random.Generator) -> Image.Image:
    picture = _sky(rng)
    draw = ImageDraw.Draw(picture)
    left = -int(rng.integers(0, 20))
    while left < SIZE:
        wide, top = int(rng.integers(35, 75)), int(rng.integers(20, 100))
        draw.rectangle(
            (left, top, left + wide, SIZE),
            fill=_mix(rng, (170, 150, 130), (150, 150, 155), (190, 170, 120), (150, 100, 80)),
        )
        pane = _mix(rng, (70, 90, 120), (200, 200, 160), (50, 60, 70))
        for y in range(top + 8, 170, 20):
            for x in range(left + 6, left + wide - 8, 15):
                draw.rectangle((x, y, x + 7, y + 10), fill=pane)
        left += wide + int(rng.integers(0, 8))
    draw.rectangle((0, 172, SIZE, SIZE), fill=_mix(rng, (90, 90, 95), (120, 115, 110)))
    return picture


def _wall(rng: np.random.Generator) -> Image.Image:
    brick, joint = (
        _mix(rng, (160, 80, 60), (190, 180, 165), (120, 125, 130), (200, 160, 110)),
        _mix(rng, (200, 195, 185), (110, 105, 100)),
    )
    picture = Image.new("RGB", (SIZE, SIZE), joint)
    draw = ImageDraw.Draw(picture)
    tall, wide = int(rng.integers(8, 16)), int(rng.integers(18, 34))
    for row, y in enumerate(range(0, SIZE, tall)):
        for x in range(-wide * (row % 2) // 2, SIZE, wide):
            shade = rng.integers(-14, 15)
            fill = tuple(int(np.clip(c + shade, 0, 255)) for c in brick)
            draw.rectangle((x, y, x + wide - 2, y + tall - 2), fill=fill)
    return picture


def _field(rng: np.random.Generator) -> Image.Image:
    picture = _sky(rng)
    draw = ImageDraw.Draw(picture)
    horizon = int(rng.integers(95, 140))
    for _ in range(rng.integers(1, 4)):
        x, w, h = rng.integers(0, SIZE), rng.integers(50, 120), rng.integers(20, 60)
        draw.polygon(
            [(x - w, horizon), (x, horizon - h), (x + w, horizon)],
            fill=_mix(rng, (110, 130, 120), (120, 120, 140), (90, 120, 80)),
        )
    draw.rectangle((0, horizon, SIZE, SIZE), fill=_mix(rng, (100, 150, 70), (150, 150, 80), (190, 170, 110)))
    for _ in range(rng.integers(2, 9)):
        x, y, r = rng.integers(0, SIZE), rng.integers(horizon, SIZE), rng.integers(6, 16)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=_mix(rng, (50, 100, 40), (80, 120, 50)))
    return picture


def _harbour(rng: np.random.Generator) -> Image.Image:
    picture = _sky(rng)
    draw = ImageDraw.Draw(picture)
    horizon = int(rng.integers(110, 150))
    draw.rectangle((0, horizon, SIZE, SIZE), fill=_mix(rng, (50, 90, 130), (60, 120, 130)))
    for _ in range(14):
        x, y = rng.integers(0, SIZE), rng.integers(horizon, SIZE)
        draw.line((x, y, x + int(rng.integers(8, 30)), y), fill=_mix(rng, (110, 150, 180), (80, 120, 150)))
    for _ in range(rng.integers(1, 4)):
        x, y, w = rng.integers(0, 170), rng.integers(horizon + 5, 180), rng.integers(30, 60)
        draw.polygon([(x, y), (x + w, y), (x + w - 8, y + 12), (x + 8, y + 12)], fill=_gaudy(rng))
        draw.rectangle((x + w // 3, y - 10, x + w * 2 // 3, y), fill=(235, 235, 230))
    return picture


def _car(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, w = rng.integers(-10, 180), rng.integers(165, 180), rng.integers(30, 46)
    colour = _gaudy(rng)
    draw.rectangle((x, y, x + w, y + 10), fill=colour)
    draw.rectangle((x + w // 4, y - 8, x + w * 3 // 4, y), fill=colour)
    for at in (x + w // 5, x + w * 4 // 5):
        draw.ellipse((at - 4, y + 6, at + 4, y + 14), fill=(25, 25, 25))


def _poster(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, w, h = rng.integers(0, 180), rng.integers(40, 160), rng.integers(12, 24), rng.integers(18, 34)
    draw.rectangle((x, y, x + w, y + h), fill=_gaudy(rng))
    ink = _gaudy(rng)
    for at in range(int(y) + 4, int(y + h) - 2, 5):
        draw.line((x + 3, at, x + int(rng.integers(6, w)), at), fill=ink)


def _awning(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, w = int(rng.integers(0, 150)), int(rng.integers(120, 165)), int(rng.integers(36, 70))
    colours = (_gaudy(rng), (240, 240, 235))
    for i, at in enumerate(range(x, x + w, 6)):
        draw.polygon([(at, y), (at + 6, y), (at + 8, y + 12), (at + 2, y + 12)], fill=colours[i % 2])


def _balloon(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, r = rng.integers(5, 195), rng.integers(10, 150), rng.integers(5, 10)
    draw.line((x, y + r, x + int(rng.integers(-4, 5)), y + 3 * r), fill=(90, 90, 90))
    draw.ellipse((x - r, y - r * 1.2, x + r, y + r * 1.2), fill=_gaudy(rng))


def _sign(draw: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, r = rng.integers(10, 190), rng.integers(110, 160), rng.integers(7, 12)
    draw.line((x, y, x, y + 40), fill=(120, 120, 120), width=2)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=_gaudy(rng))
    draw.ellipse((x - r + 3, y - r + 3, x + r - 3, y + r - 3), fill=_gaudy(rng))
