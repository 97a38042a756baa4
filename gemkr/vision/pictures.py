"""Pictures by image id in a folder, and whether those of some queries are there. Knows file names and decoding, nothing of
what is done with a picture."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from gemkr.errors import DataError, VisionError
from gemkr.types import Query
from gemkr.vision.store import RegionStore

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


class PictureFolder:
    """A folder of pictures named `<image id>.jpg|jpeg|png|webp`; ids may lead into subfolders, never out."""

    def __init__(self, folder: str | Path) -> None:
        """VisionError when there is no such folder."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            wrong = "is not a folder" if self.folder.exists() else "does not exist"
            raise VisionError(f"the picture folder {folder} {wrong}; name the folder that holds the pictures")

    def ids(self) -> list[str]:
        """All image ids in the folder itself, sorted."""
        return sorted({path.stem for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES})

    def path(self, image_id: str) -> Path:
        """The file of a picture; VisionError names one that is missing."""
        name = PurePosixPath(image_id)
        if not name.is_absolute() and ".." not in name.parts:
            candidates = [
                self.folder / f"{image_id}{suffix}" for suffix in (*SUFFIXES, *map(str.upper, SUFFIXES))
            ]
            if name.suffix.lower() in SUFFIXES:
                candidates.append(self.folder / image_id)
            for candidate in candidates:
                if candidate.is_file():
                    return candidate
        raise VisionError(
            f"the picture {image_id!r} is not in {self.folder}; put it there as .jpg, .jpeg, .png or .webp, or pass it "
            "over (regions: --skip-missing)"
        )

    def open(self, image_id: str) -> Image.Image:
        """The decoded picture, RGB, turned upright; VisionError names one that is missing or corrupt."""
        path = self.path(image_id)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as picture:
                    return ImageOps.exif_transpose(picture).convert("RGB")
        except (
            OSError,
            ValueError,
            SyntaxError,
            ImportError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as e:
            raise VisionError(
                f"the picture {image_id!r} ({path}) cannot be read: {e}; replace it, or pass it over (regions: --skip-missing)"
            ) from e

    def open_all(
        self, image_ids: Iterable[str], skipped: dict[str, str] | None = None
    ) -> Iterator[tuple[str, Image.Image]]:
        """Pictures one by one. With `skipped`, a missing or corrupt one is noted there (id -> reason), not raised."""
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
    queries: Sequence[Query], pictures: PictureFolder | None, regions: RegionStore | None
) -> None:
    """Raise DataError when a query's picture is not in the folder, or has no region features."""
    wanted = list(dict.fromkeys(query.image for query in queries if query.image is not None))
    if pictures is not None:
        absent = [image for image in wanted if not _there(pictures, image)]
        _refuse(absent, wanted, f"are not in {pictures.folder}", "add them")
    if regions is not None:
        absent = [image for image in wanted if image not in regions]
        _refuse(
            absent,
            wanted,
            f"have no features in {regions.path}",
            "run gemkr regions detect and encode over them",
        )


def _there(pictures: PictureFolder, image: str) -> bool:
    try:
        pictures.path(image)
    except VisionError:
        return False
    return True


def _refuse(absent: list[str], wanted: list[str], what: str, way_out: str) -> None:
    if absent:
        raise DataError(
            f"{len(absent)} of the {len(wanted)} pictures of the queries {what}, such as {absent[0]!r}; {way_out}"
        )
