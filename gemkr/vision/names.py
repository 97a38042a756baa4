"""Image ids and names of picture files: which suffixes a picture file may have, and the id that a file name stands for."""

from __future__ import annotations

import posixpath

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".jfif", ".jpe", ".avif")
"""Of files that are read as pictures, in the order in which they are looked for."""
UNREAD = (
    ".heic", ".heif", ".hif", ".jxl", ".jp2", ".jpx", ".j2k", ".svg", ".psd", ".tga", ".ico", ".pcx", ".ppm", ".pgm", ".pbm",
    ".pnm", ".pfm", ".exr", ".hdr", ".eps", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf",
)  # fmt: skip
"""Of picture files that are not read: they are found like the others, so that opening one names it."""
SPELLED = tuple(
    spelled
    for suffixes in (SUFFIXES, UNREAD)
    for spelled in (*suffixes, *map(str.upper, suffixes), *(f".{s[1:].capitalize()}" for s in suffixes))
)
"""All of them in the order in which they are looked for: in lower case, upper case and as a word."""
LISTED = ", ".join(SUFFIXES[:-1]) + f" or {SUFFIXES[-1]}"
"""The suffixes that are read, for messages."""


def without_suffix(image_id: str) -> str | None:
    """`holiday` of `holiday.jpg`, `trip/holiday` of `trip/holiday.PNG`; None for an id without such a suffix."""
    stem, suffix = posixpath.splitext(image_id)
    return stem if suffix.lower() in (*SUFFIXES, *UNREAD) else None
