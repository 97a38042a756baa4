"""National flags drawn by code from a table of specifications.

A flag is an aspect ratio and a list of shapes in unit coordinates (x to the right and y down, both in [0, 1]); emblems
are simplified to what can be distinguished at 24-40 pixels. Knows no scenes; the light and the cloth are in `cloth.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw

from gemkr.sample.flag_table import FLAGS

COLOURS = {
    "red": (206, 17, 38),
    "dark red": (150, 20, 50),
    "green": (0, 122, 61),
    "light green": (60, 170, 60),
    "blue": (0, 56, 168),
    "navy": (10, 30, 98),
    "sky": (108, 172, 228),
    "cyan": (0, 160, 190),
    "yellow": (252, 209, 22),
    "orange": (255, 136, 32),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "brown": (120, 80, 40),
}
SUPERSAMPLING = 4
CLEAR = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Canvas:
    """A drawing surface in unit coordinates; sizes called `r` are shares of the height."""

    draw: ImageDraw.ImageDraw
    width: int
    height: int

    def points(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self.width, y * self.height) for x, y in points]

    def polygon(self, points: list[tuple[float, float]], colour: str) -> None:
        self.draw.polygon(self.points(points), fill=COLOURS[colour])

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: str) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def disc(self, x: float, y: float, r: float, colour: str) -> None:
        cx, cy, radius = x * self.width, y * self.height, r * self.height
        self.draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=COLOURS[colour])

    def ring(self, x: float, y: float, r: float, thick: float, colour: str) -> None:
        cx, cy, radius = x * self.width, y * self.height, r * self.height
        self.draw.ellipse(
            (cx - radius, cy - radius, cx + radius, cy + radius),
            outline=COLOURS[colour],
            width=max(1, round(thick * self.height)),
        )

    def star(self, x: float, y: float, r: float, colour: str, arms: int = 5, inner: float = 0.42) -> None:
        cx, cy = x * self.width, y * self.height
        points = []
        for i in range(2 * arms):
            radius = r * self.height * (1.0 if i % 2 == 0 else inner)
            angle = math.pi * i / arms - math.pi / 2
            points.append((cx + radius * math.cos(angle), cy + radius * math.sin(angle)))
        self.draw.polygon(points, fill=COLOURS[colour])

    def line(self, x0: float, y0: float, x1: float, y1: float, thick: float, colour: str) -> None:
        self.draw.line(
            self.points([(x0, y0), (x1, y1)]), fill=COLOURS[colour], width=max(1, round(thick * self.height))
        )

    def rows(self, *colours: str, shares: tuple[float, ...] = ()) -> None:
        parts = shares or (1.0,) * len(colours)
        at = 0.0
        for colour, part in zip(colours, parts, strict=True):
            self.box(0, at / sum(parts), 1, (at + part) / sum(parts), colour)
            at += part

    def columns(self, *colours: str, shares: tuple[float, ...] = ()) -> None:
        parts = shares or (1.0,) * len(colours)
        at = 0.0
        for colour, part in zip(colours, parts, strict=True):
            self.box(at / sum(parts), 0, (at + part) / sum(parts), 1, colour)
            at += part

    def cross(self, x: float, y: float, thick: float, colour: str) -> None:
        half = thick / 2
        side = half * self.height / self.width
        self.box(0, y - half, 1, y + half, colour)
        self.box(x - side, 0, x + side, 1, colour)

    def triangle(self, depth: float, colour: str) -> None:
        self.polygon([(0, 0), (depth, 0.5), (0, 1)], colour)

    def crescent(self, x: float, y: float, r: float, colour: str, behind: str, shift: float = 0.3) -> None:
        self.disc(x, y, r, colour)
        self.disc(x + shift * r * self.height / self.width, y, r * 0.8, behind)


@cache
def flag(country: str, height: int) -> Image.Image:
    """The plain flag, RGBA, `height` pixels tall and as wide as its aspect ratio requires; KeyError if unknown.

    Do not change the picture that comes back: it is kept for the next call.
    """
    aspect, shapes, outline = FLAGS[country]
    tall, wide = height * SUPERSAMPLING, round(height * aspect) * SUPERSAMPLING
    picture = Image.new("RGBA", (wide, tall), COLOURS["white"])
    canvas = _Canvas(ImageDraw.Draw(picture), wide, tall)
    for name, *arguments in shapes:
        keywords = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
        getattr(canvas, name)(*arguments, **keywords)
    if outline:
        mask = Image.new("L", (wide, tall), 0)
        ImageDraw.Draw(mask).polygon(canvas.points(list(outline)), fill=255)
        picture.putalpha(mask)
    return picture.resize((round(height * aspect), height), Image.Resampling.BOX)
