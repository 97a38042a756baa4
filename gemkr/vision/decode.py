"""Opening a picture: the one way from a file, bytes or a decoded picture to upright RGB, offline and online."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

import PIL
from PIL import Image, UnidentifiedImageError, features

from gemkr.errors import VisionError, first_line
from gemkr.vision.colours import to_rgb
from gemkr.vision.names import UNREAD

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""What may be decoded: the formats of photos and pages, none that runs a program (EPS) or is rarely tested."""


def read_picture(
    source: str | Path | IO[bytes] | Image.Image,
    name: str,
    way_out: str = "give another picture",
) -> Image.Image:
    """The decoded picture in RGB (`to_rgb`), turned upright; of several frames or pages the first.

    VisionError, with `name` and `way_out`, for a file that is missing, corrupt, no picture of `FORMATS`, or of more pixels
    than PIL's limit against decompression bombs.
    """
    try:
        if isinstance(source, Image.Image):
            _require_few_pixels(source)
            return to_rgb(source)
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=known_formats()) as picture:
                return to_rgb(picture)
    except Exception as error:  # for a corrupt file: OSError, SyntaxError, struct.error ...
        raise VisionError(f"{name} cannot be read: {_reason(error, source)}; {way_out}") from error


def check_picture(path: str | Path, name: str, way_out: str) -> None:
    """VisionError where `read_picture` of a file would raise one; a JPEG, decoded at an eighth of its size, takes about a
    millisecond. Safe in several threads."""
    try:
        with Image.open(path, formats=known_formats()) as picture:
            _require_few_pixels(picture)
            picture.draft(None, (max(1, picture.width // 8), max(1, picture.height // 8)))
            to_rgb(picture)
    except Exception as error:  # as in `read_picture`
        raise VisionError(f"{name} cannot be read: {_reason(error, path)}; {way_out}") from error


@cache
def known_formats() -> Sequence[str]:
    """Those of `FORMATS` that the installed Pillow decodes: AVIF came with 11.3, and some builds lack it."""
    return [known for known in FORMATS if known not in ("AVIF", "WEBP") or _decodes(known)]


def _decodes(known: str) -> bool:
    """Whether Pillow was built with a codec; unknown names, of versions before it, are warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(features.check(known.lower()))


def _reason(error: Exception, source: object) -> str:
    """What is wrong with a picture file, in the middle of a sentence."""
    unknown = (error, error.__context__)  # an imported ultralytics puts an error of its own before PIL's
    if any(isinstance(one, UnidentifiedImageError) for one in unknown):
        known = known_formats()
        suffix = Path(source).suffix.lower() if isinstance(source, str | Path) else ""
        if suffix in UNREAD or (suffix == ".avif" and "AVIF" not in known):
            return f"{suffix} files are not decoded by this program with Pillow {PIL.__version__} ({', '.join(known)} are)"
        return (
            f"it is no picture of a known format ({', '.join(known)}), or of a kind of it that Pillow {PIL.__version__} does not "
            "decode"
        )
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)


def _require_few_pixels(picture: Image.Image) -> None:
    """DecompressionBombError for an opened picture beyond the limit that PIL has for files."""
    pixels = picture.width * picture.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"it has {pixels} pixels, the limit is {Image.MAX_IMAGE_PIXELS}")
