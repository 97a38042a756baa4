"""A picture of the report: inlined, with its boxes and its heat map drawn over it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from gemkr.errors import VisionError
from gemkr.evaluation.report.cards import Box, Heat

PICTURE_SIDE = 420


def picture_figure(path: Path, boxes: Sequence[Box], name: str, heat: Sequence[Heat] = ()) -> str:
    """The picture as a data URL with its boxes drawn over it, or a word in its place where it cannot be read."""
    try:
        data, width, height = small_jpeg(path)
    except VisionError:
        return f"<p class=none>the picture {escape(name)} cannot be read</p>"
    unit = max(width, height) / 100
    shapes = [_warm(part, width, height) for part in heat]
    for place, box in enumerate(boxes):
        x, y = box.left * width, box.top * height
        w, h = (box.right - box.left) * width, (box.bottom - box.top) * height
        shapes.append(
            f'<rect class="b{place % 6}" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{unit:.1f}"/>'
        )
    for place, box in enumerate(boxes):
        if box.label:
            score = "" if box.score is None else f" {box.score:.2f}".replace("0.", ".")
            size = 4.2 * unit
            x = min(box.left * width, max(0.0, width - 0.58 * size * len(box.label + score)))
            y = max(box.top * height - unit, size)
            shapes.append(
                f'<text class="b{place % 6}" x="{x:.1f}" y="{y:.1f}" font-size="{size:.1f}">'
                f"{escape(box.label)}{score}</text>"
            )
    return (
        f'<figure><img alt="picture {escape(name)}" loading="lazy" src="data:image/jpeg;base64,{data}">'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{"".join(shapes)}</svg></figure>'
    )


def _warm(part: Heat, width: int, height: int) -> str:
    """A part of the picture under its colour; what it found, to who points at it."""
    x, y = part.left * width, part.top * height
    w, h = (part.right - part.left) * width, (part.bottom - part.top) * height
    return (
        f'<rect class="heat" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" style="--w:{part.weight:.2f}">'
        f"<title>{escape(part.label)}</title></rect>"
    )


def small_jpeg(path: str | Path, side: int = PICTURE_SIDE) -> tuple[str, int, int]:
    """A picture scaled down to at most `side` pixels, as base64 JPEG, with its width and height; VisionError as `read_picture`."""
    from gemkr.vision.decode import read_picture

    picture = read_picture(Path(path), f"the picture {path}")
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=82, optimize=True)
    return base64.b64encode(out.getvalue()).decode(), picture.width, picture.height
