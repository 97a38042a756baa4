"""Pictures given at question time, kept in memory beside those of a folder and a store; nothing is written to disk."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from gemkr.errors import VisionError, first_line
from gemkr.vision.decode import read_picture
from gemkr.vision.extractor import RegionExtractor
from gemkr.vision.protocols import Pictures, Regions
from gemkr.vision.store import PictureRegions, RegionStore


@dataclass(frozen=True, slots=True)
class Added:
    """A picture that was given: decoded, its file if it came as one, and its regions if any are extracted."""

    picture: Image.Image
    path: Path | None
    regions: PictureRegions | None


class OnlinePictures:
    """A source of pictures (and, as `regions`, of their features) for those given at question time.

    Other image ids are looked up in `pictures` and `store`, so that both kinds of queries can be answered together.
    Safe to use from several threads; one picture is encoded at a time.
    """

    def __init__(
        self,
        extractor: RegionExtractor | None = None,
        pictures: Pictures | None = None,
        store: RegionStore | None = None,
    ) -> None:
        """Without `extractor` pictures have no regions, and `regions` is the store itself.

        VisionError when the store beside was made with another detector, other settings, or another tower.
        """
        if extractor is not None and store is not None:
            extractor.require_like(store)
        self.pictures = pictures
        self.regions: Regions | None = store if extractor is None else OnlineRegions(self, extractor, store)
        self._extractor = extractor
        self._added: dict[str, Added] = {}
        self._lock = threading.Lock()

    @property
    def folder(self) -> Path | str:
        return "the pictures given" if self.pictures is None else self.pictures.folder

    def add(self, picture: str | Path | bytes | Image.Image, name: str | None = None) -> str:
        """Take a picture and find and encode its regions; the image id to put into a query.

        The same file content has the same id and is computed once. `name` is how messages call one that comes as bytes
        or decoded. VisionError names a picture that cannot be read, is of no known format, or has too many pixels.
        """
        if not isinstance(picture, str | Path | bytes | Image.Image):
            raise VisionError(
                f"a picture is a path, bytes or a PIL image, not a value of type {type(picture).__name__}"
            )
        path = Path(picture) if isinstance(picture, str | Path) else None
        called = f"the picture {path or name}" if path or name else "the given picture"
        source: BytesIO | Image.Image
        if isinstance(picture, Image.Image):
            source = picture
        else:
            data = _read_bytes(path, called) if path is not None else picture
            source = BytesIO(data)
        with self._lock:
            if isinstance(source, BytesIO):
                image_id = _image_id(data)
                if image_id in self._added:
                    return image_id
            opened = read_picture(source, called)
            if isinstance(source, Image.Image):
                image_id = _image_id(f"{opened.size}".encode() + opened.tobytes())
            if image_id not in self._added:
                regions = None if self._extractor is None else self._extractor(image_id, opened)
                self._added[image_id] = Added(opened, path, regions)
        return image_id

    def remove(self, image_id: str) -> None:
        """Remove a given picture and free its memory; an absent one is no error."""
        with self._lock:
            self._added.pop(image_id, None)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._added or (self.pictures is not None and image_id in self.pictures)

    def open(self, image_id: str) -> Image.Image:
        """The decoded picture, RGB, upright; VisionError names one that is neither given nor in `pictures`."""
        added = self.given(image_id)
        if added is not None:
            return added.picture
        return self._beside(image_id).open(image_id)

    def check(self, image_id: str) -> None:
        """VisionError for a picture that cannot be read; given ones are decoded already."""
        if self.given(image_id) is None:
            self._beside(image_id).check(image_id)

    def path(self, image_id: str) -> Path:
        """The file of a picture; VisionError for one that was given as bytes or decoded."""
        added = self.given(image_id)
        if added is None:
            return self._beside(image_id).path(image_id)
        if added.path is None:
            raise VisionError(f"the picture {image_id!r} was not given as a file; open it instead")
        return added.path

    def given(self, image_id: str) -> Added | None:
        """A picture that was added, else None."""
        return self._added.get(image_id)

    def _beside(self, image_id: str) -> Pictures:
        if self.pictures is None:
            raise VisionError(f"the picture {image_id!r} was not given; add it first")
        return self.pictures


class OnlineRegions:
    """The region features of given pictures, and of those in the store beside them."""

    def __init__(
        self, pictures: OnlinePictures, extractor: RegionExtractor, store: RegionStore | None
    ) -> None:
        self._pictures = pictures
        self._store = store
        self.path: Path | str = "the pictures given" if store is None else store.path
        self.width, self.encoder = extractor.width, extractor.encoder

    def __contains__(self, image_id: str) -> bool:
        return self._pictures.given(image_id) is not None or (
            self._store is not None and image_id in self._store
        )

    def get(self, image_id: str) -> PictureRegions:
        """The regions of a picture; VisionError names one that is neither given nor in the store."""
        added = self._pictures.given(image_id)
        if added is not None:
            assert added.regions is not None  # an extractor is there, or there were no OnlineRegions
            return added.regions
        if self._store is None:
            raise VisionError(f"the picture {image_id!r} was not given; add it first")
        return self._store.get(image_id)


def _image_id(data: bytes) -> str:
    return f"given-{hashlib.sha256(data).hexdigest()[:16]}"


def _read_bytes(path: Path, called: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise VisionError(f"{called} cannot be read: {reason}; give a picture file") from error
