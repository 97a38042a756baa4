"""Boxes of pictures, and the file of them: jsonl, one header line, then one line per picture.

Written as it comes to `PATH.part`, so that an interrupted run goes on where it stopped. Knows no detector.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import VisionError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class PictureBoxes:
    """The regions of one picture, best first: boxes float32[n, 4], xyxy in pixels; `size` is (width, height)."""

    image: str
    size: tuple[int, int]
    boxes: np.ndarray
    classes: tuple[str, ...]
    scores: tuple[float, ...]

    def to_row(self) -> dict[str, Any]:
        return asdict(self) | {"boxes": [[round(float(x), 2) for x in box] for box in self.boxes]}

    def rounded(self) -> PictureBoxes:
        """The same picture as a boxes file gives it back: boxes in hundredths of a pixel."""
        return PictureBoxes.from_row(self.to_row())

    def require_inside(self) -> None:
        """VisionError for a box of which nothing lies in the picture, that has no area, or a corner that is not finite."""
        width, height = self.size
        x0, y0, x1, y1 = self.boxes.T if len(self.boxes) else np.zeros((4, 0))
        inside = (x1 > np.maximum(x0, 0)) & (y1 > np.maximum(y0, 0)) & (x0 < width) & (y0 < height)
        bad = np.flatnonzero(~(inside & np.isfinite(x0 + y0 + x1 + y1)))
        if len(bad):
            box = ", ".join(f"{float(x):g}" for x in self.boxes[bad[0]])
            raise VisionError(
                f"the region ({box}) of the picture {self.image!r} lies outside of its {width}x{height} pixels; correct or delete it"
            )

    @staticmethod
    def from_row(row: dict[str, Any]) -> PictureBoxes:
        """The opposite of `to_row`; KeyError, TypeError or ValueError for a row of another form."""
        boxes = np.asarray(row["boxes"], np.float32).reshape(-1, 4)
        if not len(boxes) == len(row["classes"]) == len(row["scores"]):
            raise ValueError("boxes, classes and scores differ in number")
        width, height = row["size"]
        return PictureBoxes(
            str(row["image"]),
            (int(width), int(height)),
            boxes,
            tuple(map(str, row["classes"])),
            tuple(map(float, row["scores"])),
        )


def read_boxes(path: str | Path) -> tuple[dict[str, Any], list[PictureBoxes]]:
    """The header and all pictures of a boxes file; VisionError names file and line of a bad row."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as stream:
            header, rows = _parse(path, stream)
    except UnicodeDecodeError as error:
        raise VisionError(
            f"the boxes file {path} is not UTF-8 text; make it with `gemkr regions detect`"
        ) from error
    except OSError as error:
        raise VisionError(f"the boxes file {path} cannot be read: {error.strerror}") from error
    return header, rows


class BoxesWriter:
    """Appends pictures to `PATH.part`; `finish` gives the file its name. `done` are the ids already there."""

    def __init__(
        self, path: str | Path, header: dict[str, Any], wanted: Container[str] | None = None
    ) -> None:
        """Goes on with a `.part` of the same header, keeping its whole lines (of the pictures `wanted`, where they are
        named); starts again otherwise."""
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        self.header = {"format": FORMAT} | json.loads(json.dumps(header))
        rows = [row for row in self._left_over() if wanted is None or row.image in wanted]
        self.done = {row.image for row in rows}
        self.count = sum(len(row.boxes) for row in rows)
        fresh = self.part.with_name(self.part.name + ".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as stream:
                for value in (self.header, *(row.to_row() for row in rows)):
                    stream.write(json.dumps(value) + "\n")
            fresh.replace(self.part)
            self._stream = self.part.open("a", encoding="utf-8")
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise self._failure(error) from error

    def add(self, rows: Iterable[PictureBoxes]) -> None:
        """Append pictures and hand them to the operating system; VisionError when it takes no more."""
        try:
            for row in rows:
                self._stream.write(json.dumps(row.to_row()) + "\n")
                self.count += len(row.boxes)
                self.done.add(row.image)
            self._stream.flush()
        except OSError as error:
            raise self._failure(error) from error

    def finish(self) -> None:
        """Give the file its name; VisionError when that fails, `PATH.part` then stays."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self.part.replace(self.path)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> VisionError:
        return VisionError(
            f"the boxes file {self.path} cannot be written: {error.strerror}; choose another place, or make room and run "
            "the same command again"
        )

    def _left_over(self) -> list[PictureBoxes]:
        if not self.part.is_file():
            return []
        whole = [
            line for line in self.part.read_text(encoding="utf-8").splitlines(True) if line.endswith("\n")
        ]
        try:
            header, rows = _parse(self.part, whole)
        except VisionError:
            return []
        return rows if header == self.header else []


def _parse(path: Path, lines: Iterable[str]) -> tuple[dict[str, Any], list[PictureBoxes]]:
    numbered = enumerate(lines, 1)
    header = _json(path, *next(numbered, (1, "")))
    if header.get("format") != FORMAT:
        raise VisionError(
            f"{path} is no boxes file of format {FORMAT}: its first line says {header.get('format')!r}; make it with "
            "`gemkr regions detect`"
        )
    if not isinstance(header.get("detector"), str):
        raise VisionError(f"{path}:1 names no detector; make the file with `gemkr regions detect`")
    return header, list(_rows(path, numbered))


def _rows(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[PictureBoxes]:
    for number, line in lines:
        try:
            yield PictureBoxes.from_row(_json(path, number, line))
        except (KeyError, TypeError, ValueError) as error:
            raise VisionError(f"{path}:{number} is no row of boxes ({error})") from error


def _json(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise VisionError(f"{path}:{number} is not valid json ({error})") from error
    if not isinstance(value, dict):
        raise VisionError(f"{path}:{number} must be a json object, it is {type(value).__name__}")
    return value
