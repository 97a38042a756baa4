"""Makes a plain flag look like cloth in a given light: waves, folds, a small tilt, brightness and tint.

Knows nothing of where in a scene the flag hangs.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from gemkr.sample.flags import flag

SCALE = 3


def draw(country: str, height: int, rng: np.random.Generator | None = None) -> Image.Image:
    """A flag as RGBA, about `height` pixels tall: plain without `rng`, else waving and lit at random.

    Waves make it a few pixels taller than `height`. Transparent pixels surround the cloth. KeyError if unknown.
    """
    if rng is None:
        return flag(country, height).copy()
    plain = np.asarray(flag(country, height * SCALE), dtype=np.float32)
    rows, columns = plain.shape[:2]
    x = np.arange(columns) / columns
    swing = rng.uniform(0.0, 0.07) * rows
    phase = 2 * math.pi * (x * rng.uniform(0.6, 1.6) + rng.random())
    # The cloth is fixed at the pole: waves grow with the distance from it.
    shift = np.round(swing * np.sin(phase) * np.minimum(1, x * 2.5)).astype(int)
    margin = int(np.abs(shift).max())
    cloth = np.zeros((rows + 2 * margin, columns, 4), np.float32)
    shade = 1 + rng.uniform(0.04, 0.2) * np.cos(phase)
    for column in range(columns):
        top = margin + shift[column]
        cloth[top : top + rows, column] = plain[:, column]
    light = rng.uniform(0.78, 1.06) * rng.uniform(0.95, 1.05, size=3)
    cloth[..., :3] = np.clip(cloth[..., :3] * shade[None, :, None] * light + rng.uniform(-6, 10), 0, 255)
    picture = Image.fromarray(cloth.astype(np.uint8))
    picture = picture.rotate(rng.uniform(-5, 5), Image.Resampling.BILINEAR, expand=True)
    return picture.resize(
        (max(1, round(picture.width / SCALE)), max(1, round(picture.height / SCALE))), Image.Resampling.BOX
    )
