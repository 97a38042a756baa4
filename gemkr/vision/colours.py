"""The colours of a decoded picture as 8-bit RGB, whatever mode it has: deep greys scaled, transparency put on white.

Knows no files; ordinary 8-bit pictures pass through Pillow's own conversion.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF."""
WHITE_IS_ZERO, UNSIGNED = 0, 1
WHITES = (1, 255, 65535)
"""What is white in pictures whose format does not say it: the least of these that no value exceeds."""


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture in mode RGB, turned upright as its EXIF data say; of several frames the first.

    Grey of 16 bits (12 in some TIFF files) is divided by its largest possible value. Pictures of 32-bit integers or floats
    have no such value: white is the least of 1 (floats), 255 and 65535 that no pixel exceeds; beyond those, and where
    pixels are negative, the least pixel is black and the largest white. A pixel that is no number is black. What is
    transparent is mixed with white. ValueError for a picture without a finite pixel, or of a mode that is no RGB.
    """
    upright = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _deep_grey(picture, upright)
    if _has_transparency(upright):
        return _on_white(upright)
    return upright.convert("RGB")


def _deep_grey(picture: Image.Image, upright: Image.Image) -> Image.Image:
    """RGB of a grey picture of more than 8 bits; what `picture` says of its file `upright`, a copy, does not."""
    tags = getattr(picture, "tag_v2", {})
    values = np.asarray(upright)
    if (
        values.dtype == np.int32
        and _first(tags.get(BITS)) == 32
        and _first(tags.get(SAMPLE_FORMAT, 1)) == UNSIGNED
    ):
        values = values.view(np.uint32)
    if picture.mode.startswith("I;16"):
        black, white = 0.0, 2.0 ** (_first(tags.get(BITS)) or 16) - 1
    elif picture.format in ("PNG", "PPM"):  # earlier versions of Pillow hold their 16 bits in 32
        black, white = 0.0, 65535.0
    else:
        black, white = _range_of(values)
    grey = np.nan_to_num((values.astype(np.float64) - black) / (white - black), posinf=1.0, neginf=0.0)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 1.0 - grey
    level = np.round(grey.clip(0.0, 1.0) * 255).astype(np.uint8)
    if isinstance(picture.info.get("transparency"), int):
        level[values == picture.info["transparency"]] = 255
    return Image.fromarray(level).convert("RGB")


def _range_of(values: np.ndarray) -> tuple[float, float]:
    """What is black and what is white among integers or floats of 32 bits; never the same number."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("none of its values is a finite number")
    least, largest = float(finite.min()), float(finite.max())
    whites = WHITES if values.dtype.kind == "f" else WHITES[1:]
    if least >= 0 and largest <= whites[-1]:
        return 0.0, float(next(white for white in whites if largest <= white))
    return least, largest if largest > least else least + 1


def _has_transparency(picture: Image.Image) -> bool:
    palette = picture.palette if picture.mode == "P" else None
    return (
        picture.mode in ("LA", "La", "PA", "RGBA", "RGBa")
        or "transparency" in picture.info
        or (palette is not None and palette.mode.endswith("A"))
    )


def _on_white(picture: Image.Image) -> Image.Image:
    """A picture with transparency over white; opaque pixels keep their colours to the last digit."""
    transparent = picture.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:  # of 16 bits, the pixels have 8 of them
        picture.info["transparency"] = tuple(value >> 8 for value in transparent)
    if picture.mode == "La":
        picture = picture.convert("LA")
    shown = picture.convert("RGBA")
    white = Image.new("RGB", shown.size, "white")
    white.paste(shown.convert("RGB"), mask=shown.getchannel("A"))
    return white


def _first(value: object) -> int | None:
    """A tag's value, or the first of several."""
    return value[0] if isinstance(value, tuple) else value
