"""Pictures given to the service: checked, decoded in memory, their regions found, and kept while questions need them.

No request names a file: ids are those of pictures that were given, or of the configuration's folder of pictures.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from gemkr.errors import VisionError
from gemkr.serve.refusals import BusyError, RefusedError
from gemkr.vision.decode import known_formats

if TYPE_CHECKING:
    from gemkr.vision.online import OnlinePictures

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of width and height."""
LEAST_SIDE = 8
"""Pixels that a part of a picture must have on either side."""
SHOWN_SIDE = 1280


@dataclass(slots=True)
class Kept:
    """A picture in memory, and how many requests hold it."""

    pixels: int
    held: int = 0


class PictureDesk:
    """The pictures of requests over `OnlinePictures`; safe to use from several threads, one picture is encoded at a time.

    Pictures that nobody holds stay for later questions until `kept_pixels` are passed, the longest unused leave first.
    """

    def __init__(self, online: OnlinePictures, *, most_pixels: int, kept_pixels: int) -> None:
        self.online = online
        self._most, self._kept_pixels = most_pixels, max(kept_pixels, most_pixels)
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._adding, self._lock = threading.Lock(), threading.Lock()
        self._samples: list[str] | None = None

    def samples(self, most: int = 24) -> list[str]:
        """Ids of the first pictures of the configuration's folder, as it was when they were first asked for."""
        if self._samples is None:
            ids = getattr(self.online.pictures, "ids", None)
            self._samples = [] if ids is None else ids()
        return self._samples[:most]

    @contextmanager
    def given(self, data: bytes) -> Iterator[str]:
        """The id of a picture that came as bytes, held inside of the block. VisionError for what is no picture of an allowed
        format, RefusedError for one of too many pixels, BusyError when too many pictures are held."""
        pixels = self._checked(data)
        with self._adding:
            image_id = self._add(data, pixels)
        try:
            yield image_id
        finally:
            self._release(image_id)

    @contextmanager
    def seen(self, image_id: str) -> Iterator[None]:
        """A picture that was given before, or one of the folder, held inside of the block as it is; RefusedError for any other id."""
        with self._lock:
            kept = self._kept.get(image_id)
            if kept is not None:
                kept.held += 1
                self._kept.move_to_end(image_id)
        if kept is None and not self._in_folder(image_id):
            raise RefusedError(
                404, f"the picture {image_id[:80]!r} is not known here (any more); send the picture itself"
            )
        try:
            yield
        finally:
            if kept is not None:
                self._release(image_id)

    @contextmanager
    def known(self, image_id: str) -> Iterator[str]:
        """The id of a picture as `seen`, with its regions: one of the folder whose regions are not stored is taken as if it were given."""
        with self.seen(image_id):
            regions = self.online.regions
            if regions is None or image_id in regions:
                yield image_id
                return
            with self.given(self.online.path(image_id).read_bytes()) as given:
                yield given

    @contextmanager
    def part(self, image_id: str, box: Box) -> Iterator[str]:
        """A part of a held picture as a picture of its own."""
        picture = self.online.open(image_id)
        left, top, right, bottom = (
            round(share * side) for share, side in zip(box, (*picture.size, *picture.size), strict=True)
        )
        if right - left < LEAST_SIDE or bottom - top < LEAST_SIDE:
            raise VisionError(
                f"the part of the picture has {max(0, right - left)} x {max(0, bottom - top)} pixels, it needs at least "
                f"{LEAST_SIDE} x {LEAST_SIDE}; draw a larger box"
            )
        cut = picture.crop((left, top, right, bottom))
        with self._adding:
            part_id = self._add(cut, cut.width * cut.height)
        try:
            yield part_id
        finally:
            self._release(part_id)

    def describe(self, image_id: str) -> dict[str, Any]:
        """Size and found boxes of a held picture, or of one of the folder."""
        width, height = self.online.open(image_id).size
        boxes = []
        regions = self.online.regions
        if regions is not None and image_id in regions:
            found = regions.get(image_id)
            sides = (*found.size, *found.size)
            for box, name, score in zip(found.boxes.tolist(), found.classes, found.scores, strict=True):
                shares = [
                    round(min(max(at / side, 0.0), 1.0), 4) for at, side in zip(box, sides, strict=True)
                ]
                boxes.append({"box": shares, "label": name, "score": round(float(score), 4)})
        return {"id": image_id, "width": width, "height": height, "boxes": boxes}

    def jpeg(self, image_id: str, side: int = SHOWN_SIDE) -> bytes:
        """A held picture, or one of the folder, scaled down, as JPEG without metadata."""
        picture = self.online.open(image_id).copy()
        picture.thumbnail((side, side))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=85)
        return out.getvalue()

    def require_in_folder(self, image_id: str) -> None:
        """RefusedError unless a document may name this picture for good: it is one of the folder, within the bounds of those that are
        given, which only stay for a while. VisionError for a file that is no picture."""
        if not self._in_folder(image_id):
            raise RefusedError(
                422,
                f"the picture {image_id[:80]!r} is not in the configuration's folder of pictures; put it there, and name its file",
            )
        self._checked(self.online.pictures.path(image_id).read_bytes())

    def _in_folder(self, image_id: str) -> bool:
        folder = self.online.pictures
        return folder is not None and "\x00" not in image_id and len(image_id) < 200 and image_id in folder

    def _checked(self, data: bytes) -> int:
        """The number of pixels by the header; nothing is decoded."""
        if not data:
            raise VisionError("the picture is empty; send the bytes of a picture file")
        try:
            with Image.open(io.BytesIO(data), formats=known_formats()) as picture:
                pixels = picture.width * picture.height
        except Image.DecompressionBombError as error:
            raise RefusedError(
                413, f"the picture has more than {self._most:,} pixels; scale it down"
            ) from error
        except Exception as error:  # a corrupt header: OSError, SyntaxError, struct.error ...
            raise VisionError(
                f"what was sent is no picture of a known format ({', '.join(known_formats())}); give another picture"
            ) from error
        if pixels > self._most:
            raise RefusedError(
                413, f"the picture has {pixels:,} pixels, the limit is {self._most:,}; scale it down"
            )
        return pixels

    def _add(self, picture: bytes | Image.Image, pixels: int) -> str:
        with self._lock:
            held = sum(kept.pixels for kept in self._kept.values() if kept.held)
            if held + pixels > self._kept_pixels:
                raise BusyError("too many pictures are being looked at; ask again in a moment", 2)
        image_id = self.online.add(picture)
        with self._lock:
            kept = self._kept.setdefault(image_id, Kept(pixels))
            kept.held += 1
            self._kept.move_to_end(image_id)
            total = sum(kept.pixels for kept in self._kept.values())
            for other, one in list(self._kept.items()):
                if total <= self._kept_pixels:
                    break
                if not one.held:
                    total -= one.pixels
                    del self._kept[other]
                    self.online.remove(other)
        return image_id

    def _release(self, image_id: str) -> None:
        with self._lock:
            self._kept[image_id].held -= 1
