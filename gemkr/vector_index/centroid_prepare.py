"""A centroid index comes into being beside its vectors: by one process at a time, whole or not at all.

It is built in NAME.part beside its place, where `.lock` keeps other processes out; an unfinished build stays for the next time, unless
it is of other settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from gemkr.errors import DataError
from gemkr.files import clear_parts, delete_folder, lock
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.centroid_build import INDEX, LOCK, RECORD, Build
from gemkr.vector_index.centroid_folder import MANIFEST, put_in_place
from gemkr.vector_index.manifest import part_folder
from gemkr.vector_index.token_codec import check_width


def build_on_disk(path: Path, parts: Sequence[TokenVectors], lists: int, bits: int) -> bool:
    """Build the index `path` of `lists` centroids over the documents of parts, whole or not at all; what a stopped build of the same has
    left goes on. False where another process has built it meanwhile. Memory: two more copies of the sample as float32, later what
    `lists_of` takes.

    DataError where another process is at it, or there is no room; what was made stays for the next time.
    """
    check_width(parts[0].values.shape[1], bits)
    place = part_folder(path)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _only_builder(place, path):
            if anew := not (path / MANIFEST).is_file():
                Build(place, parts, lists, bits).run()
                clear_parts(path.parent, path.name)
                put_in_place(place / INDEX, path)
            delete_folder(place, first=RECORD)
    except OSError as error:
        raise DataError(
            f"the index {path} cannot be written ({error.strerror or error}); make room and run the same command again, or choose another "
            "folder"
        ) from error
    _clear_unfinished(path.parent)
    return anew


def clear_finished(path: Path) -> None:
    """Delete what a process that was killed right after it had finished an index has left of its build."""
    place = part_folder(path)
    if place.is_dir():
        with suppress(DataError, OSError), lock(place / LOCK):
            delete_folder(place, first=RECORD)


def _clear_unfinished(folder: Path) -> None:
    """Delete builds of other settings in a folder that nobody is at."""
    for place in folder.glob("centroid-*.part"):
        clear_finished(place.with_name(place.name.removesuffix(".part")))


def _only_builder(place: Path, path: Path) -> IO[bytes]:
    try:
        return lock(place / LOCK)
    except DataError as error:
        raise DataError(f"another process is building the index {path}; wait until it has ended") from error
