"""Image ids and names of picture files: which suffixes a picture file may have, and the id that a file name stands for."""

from __future__ import annotations

from pathlib import PurePosixPath

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def without_suffix(image_id: str) -> str | None:
    """`holiday` of `holiday.jpg`, `trip/holiday` of `trip/holiday.PNG`; None for an id without such a suffix."""
    suffix = PurePosixPath(image_id).suffix
    return image_id[: -len(suffix)] if suffix.lower() in SUFFIXES else None
