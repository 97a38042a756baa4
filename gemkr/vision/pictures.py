"""Pictures by image id in a folder, and whether those of some queries are there. Knows file names and decoding, nothing of
what is done with a picture."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from gemkr.errors import DataError, VisionError, first_line
from gemkr.types import Query
from gemkr.vision.names import SUFFIXES, without_suffix
from gemkr.vision.protocols import Pictures, Regions


class PictureFolder:
    """A folder of pictures named `<image id>.jpg|jpeg|png|webp`; ids may lead into subfolders, never out.

    An image id may have a file suffix: `holiday.jpg` is that file, and where it is not there the picture `holiday`.
    """

    def __init__(self, folder: str | Path) -> None:
        """VisionError when there is no such folder."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            wrong = "is not a folder" if self.folder.exists() else "does not exist"
            raise VisionError(f"the picture folder {folder} {wrong}; name the folder that holds the pictures")

    def ids(self) -> list[str]:
        """All image ids in the folder itself, sorted."""
        return sorted({path.stem for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES})

    def __contains__(self, image_id: str) -> bool:
        try:
            self.path(image_id)
        except VisionError:
            return False
        return True

    def path(self, image_id: str) -> Path:
        """The file of a picture; VisionError names one that is missing, or ambiguous without its suffix."""
        name = PurePosixPath(image_id)
        if not name.is_absolute() and ".." not in name.parts:
            stem = without_suffix(image_id)
            candidates = [*self._files(image_id), *([] if stem is None else [self.folder / image_id])]
            for candidate in candidates:
                if candidate.is_file():
                    return candidate
            found = [] if stem is None else _different([path for path in self._files(stem) if path.is_file()])
            if len(found) == 1:
                return found[0]
            if found:
                raise VisionError(
                    f"the picture {image_id!r} is not in {self.folder}, and {stem!r} is ambiguous there: {found[0].name} or "
                    f"{found[1].name}; name one of them"
                )
        raise VisionError(
            f"the picture {image_id!r} is not in {self.folder}; put it there as .jpg, .jpeg, .png or .webp, or pass it "
            "over (regions: --skip-missing)"
        )

    def _files(self, image_id: str) -> list[Path]:
        return [self.folder / f"{image_id}{suffix}" for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))]

    def open(self, image_id: str) -> Image.Image:
        """The decoded picture, RGB, turned upright; VisionError names one that is missing or corrupt."""
        path = self.path(image_id)
        return read_picture(
            path,
            f"the picture {image_id!r} ({path})",
            "replace it, or pass it over (regions: --skip-missing)",
        )

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


def read_picture(
    source: Path | IO[bytes] | Image.Image,
    name: str,
    way_out: str = "give another picture",
    formats: Sequence[str] | None = None,
) -> Image.Image:
    """The decoded picture, RGB, turned upright as its EXIF data say; offline and online decode by this function.

    `formats` are those of PIL that may be decoded, None for all. VisionError, with `name` and `way_out`, for a file that
    is missing, corrupt, no picture, or of more pixels than PIL's limit against decompression bombs.
    """
    try:
        if isinstance(source, Image.Image):
            _require_few_pixels(source)
            return ImageOps.exif_transpose(source).convert("RGB")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=formats) as picture:
                return ImageOps.exif_transpose(picture).convert("RGB")
    except Exception as error:  # for a corrupt file: OSError, SyntaxError, struct.error ...
        raise VisionError(f"{name} cannot be read: {_reason(error, formats)}; {way_out}") from error


def require_pictures(queries: Sequence[Query], pictures: Pictures | None, regions: Regions | None) -> None:
    """Raise DataError when a query's picture is not there, or has no region features."""
    wanted = list(dict.fromkeys(query.image for query in queries if query.image is not None))
    if pictures is not None:
        absent = [image for image in wanted if image not in pictures]
        _refuse(absent, wanted, f"are not in {pictures.folder}", "add them")
    if regions is not None:
        absent = [image for image in wanted if image not in regions]
        _refuse(
            absent,
            wanted,
            f"have no features in {regions.path}",
            "run gemkr regions detect and encode over them",
        )


def _different(paths: list[Path]) -> list[Path]:
    """Without names of the same file, which a file system that ignores case gives."""
    found: list[Path] = []
    for path in paths:
        if not any(path.samefile(other) for other in found):
            found.append(path)
    return found


def _reason(error: Exception, formats: Sequence[str] | None) -> str:
    """What is wrong with a picture file, in the middle of a sentence."""
    unknown = (error, error.__context__)  # an imported ultralytics puts an error of its own before PIL's
    if any(isinstance(one, UnidentifiedImageError) for one in unknown):
        known = f" ({', '.join(formats)})" if formats else ""
        return f"it is no picture of a known format{known}"
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)


def _require_few_pixels(picture: Image.Image) -> None:
    """DecompressionBombError for an opened picture beyond the limit that PIL has for files."""
    pixels = picture.width * picture.height
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"it has {pixels} pixels, the limit is {Image.MAX_IMAGE_PIXELS}")


def _refuse(absent: list[str], wanted: list[str], what: str, way_out: str) -> None:
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(wanted)} pictures of the queries {what}, such as {absent[0]!r}; {way_out}"
        )
