"""Pictures by image id in a folder, and whether those of some queries are there. Knows file names and decoding, nothing of
what is done with a picture."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from gemkr.errors import DataError, VisionError
from gemkr.progress import progress_bar
from gemkr.types import Document, Query
from gemkr.vision.decode import check_picture, read_picture
from gemkr.vision.names import LISTED, SPELLED, SUFFIXES, UNREAD, without_suffix
from gemkr.vision.protocols import Pictures, Regions

logger = logging.getLogger(__name__)

MANY = 1000
"""From so many pictures on, checking them all has a progress bar."""


class PictureFolder:
    """A folder of pictures named `<image id>` with a suffix of `names.SUFFIXES`; ids may lead into subfolders, never out.

    An image id may have a file suffix: `holiday.jpg` is that file, and where it is not there the picture `holiday`. A file
    of a format that is not read (`holiday.heic`) is there like any other, and refused by name when it is opened.
    """

    def __init__(
        self, folder: str | Path, way_out: str = "take out the query or document that names it"
    ) -> None:
        """`way_out` is what the caller's user may do about a missing or corrupt picture, other than mending it.

        VisionError when there is no such folder.
        """
        self.folder = Path(folder)
        self._way_out = way_out
        if not self.folder.is_dir():
            wrong = "is not a folder" if self.folder.exists() else "does not exist"
            raise VisionError(f"the picture folder {folder} {wrong}; name the folder that holds the pictures")

    def ids(self) -> list[str]:
        """All image ids in the folder itself, sorted, those of formats that are not read among them.

        A warning names a file that is hidden by another of its id.
        """
        known = {*SUFFIXES, *UNREAD}
        files = sorted(path for path in self.folder.iterdir() if path.suffix.lower() in known)
        ids = sorted({path.stem for path in files})
        if len(ids) < len(files):
            taken = {image_id: self.path(image_id) for image_id in ids if image_id in self}
            hidden = next(path for path in files if taken.get(path.stem) != path)
            logger.warning(
                "%d pictures in %s are left out, as another has the same name, such as %s; rename them",
                len(files) - len(ids), self.folder, hidden.name,
            )  # fmt: skip
        return ids

    def __contains__(self, image_id: str) -> bool:
        try:
            self._file(image_id)
        except VisionError:
            return False
        return True

    def path(self, image_id: str) -> Path:
        """The file of a picture; VisionError names one that is missing, or ambiguous without its suffix."""
        return Path(self._file(image_id))

    def _file(self, image_id: str) -> str:
        """`path` as a string. `Path` interns every name that it is made of, and a lookup tries a hundred names: CPython's table of
        interned strings would be made anew every thousand lookups, each time in the memory of the thread that is at it."""
        if not image_id.startswith("/") and ".." not in image_id.split("/"):
            stem = without_suffix(image_id)
            named = () if stem is None else (os.path.join(self.folder, image_id),)
            for candidate in (*named, *self._files(image_id)):
                if os.path.isfile(candidate):
                    return candidate
            found = [] if stem is None else _different(list(filter(os.path.isfile, self._files(stem))))
            if len(found) == 1:
                return found[0]
            if found:
                first, second = map(os.path.basename, found[:2])
                raise VisionError(
                    f"the picture {image_id!r} is not in {self.folder}, and {stem!r} is ambiguous there: {first} or "
                    f"{second}; name one of them"
                )
        raise VisionError(
            f"the picture {image_id!r} is not in {self.folder}; put it there as {LISTED}, or {self._way_out}"
        )

    def _files(self, image_id: str) -> list[str]:
        """Where a picture may lie, those that can be read first; suffixes in lower case, upper case and as a word."""
        return [os.path.join(self.folder, f"{image_id}{spelled}") for spelled in SPELLED]

    def open(self, image_id: str) -> Image.Image:
        """The decoded picture, RGB, turned upright; VisionError names one that is missing or corrupt."""
        path = self._file(image_id)
        return read_picture(path, f"the picture {image_id!r} ({path})", f"replace it, or {self._way_out}")

    def check(self, image_id: str) -> None:
        """VisionError, as `open`, for a picture that is missing or corrupt; quicker, as nothing is made of what is decoded."""
        path = self._file(image_id)
        check_picture(path, f"the picture {image_id!r} ({path})", f"replace it, or {self._way_out}")

    def open_all(
        self, image_ids: Iterable[str], skipped: dict[str, str] | None = None
    ) -> Iterator[tuple[str, Image.Image]]:
        """Pictures one by one. With `skipped`, a missing or corrupt one is recorded there (id -> reason), not raised."""
        for image_id in image_ids:
            try:
                picture = self.open(image_id)
            except VisionError as error:
                if skipped is None:
                    raise
                skipped[image_id] = str(error)
                continue
            yield image_id, picture


def require_pictures(
    items: Sequence[Query] | Sequence[Document],
    pictures: Pictures | None,
    regions: Regions | None,
    *,
    of: str = "queries",
) -> None:
    """Raise DataError when an item's picture is not there, or has no region features, VisionError when it cannot be read; `of` is
    what the items are called.

    Every picture is decoded for that, on all cores: about a millisecond each.
    """
    wanted = list(dict.fromkeys(item.image for item in items if item.image is not None))
    if pictures is not None:
        absent = [image for image in wanted if image not in pictures]
        _refuse(absent, wanted, of, f"are not in {pictures.folder}", "add them")
    if regions is not None:
        absent = [image for image in wanted if image not in regions]
        _refuse(
            absent,
            wanted,
            of,
            f"have no features in {regions.path}",
            "run gemkr regions detect and encode over them",
        )
    if pictures is not None:
        with (
            ThreadPoolExecutor() as pool,
            progress_bar(
                pool.map(pictures.check, wanted),
                "checking pictures",
                total=len(wanted),
                disable=len(wanted) < MANY,
            ) as bar,
        ):
            for _ in bar:
                pass


def _different(paths: list[str]) -> list[str]:
    """Without names of the same file, which a file system that ignores case gives."""
    found: list[str] = []
    for path in paths:
        if not any(os.path.samefile(path, other) for other in found):
            found.append(path)
    return found


def _refuse(absent: list[str], wanted: list[str], of: str, what: str, way_out: str) -> None:
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(wanted)} pictures of the {of} {what}, such as {absent[0]!r}; {way_out}"
        )
