"""What a collection's documents are encoded to: a folder for each segment, so that it follows what is added, deleted and merged.

What a new segment lacks is made in its folder (`segment_folder`); folders of segments that are no more are deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

import numpy as np

from gemkr.collection.commit import FOREVER, LOCK, locked
from gemkr.collection.segment import OpenSegment
from gemkr.errors import DataError
from gemkr.files import delete_folder, require_writable_folder
from gemkr.progress import progress_bar
from gemkr.vector_index.manifest import MANIFEST, part_folder
from gemkr.vector_index.segment_folder import Kind, Known, Missing, S

MOST_ENCODED = 4096
"""Documents that a retriever encodes when it is opened; more are for `gemkr embed`."""
LEARNED = ".index"
"""How the names of folders end that hold indexes over the vectors."""
Parts = Sequence[tuple[OpenSegment, np.ndarray]]
"""Segments, and int64[n], ascending: their deleted documents."""


@dataclass(frozen=True)
class Followed(Generic[S]):
    """What is kept of each segment's documents, how many of the live ones were encoded now, and how many were there."""

    stored: list[S]
    encoded: int
    there: int


def follow(
    folder: str | Path,
    parts: Parts,
    kind: Kind[S],
    remedy: str,
    *,
    most: float = MOST_ENCODED,
    progress: bool = False,
) -> Followed[S]:
    """What is kept of a collection's generation. What is missing of it is made now, unless that means to encode more than `most`
    documents; folders of other generations are deleted.

    DataError, ending in `remedy`, for too many missing ones, or those of another encoder; where the folder cannot be written.
    """
    with written(folder, parts, kind, remedy, most=most, progress=progress) as count:
        found = opened(folder, parts, kind, remedy)
    live = sum(len(segment.texts) - len(gone) for segment, gone in parts)
    return Followed(found, count, live - count)


@contextmanager
def written(
    folder: str | Path,
    parts: Parts,
    kind: Kind[S],
    remedy: str,
    *,
    most: float = MOST_ENCODED,
    progress: bool = False,
) -> Iterator[int]:
    """What `follow` makes, without opening it: how many documents were encoded. Inside, no other process deletes what was made."""
    folder = Path(folder)
    if (folder / MANIFEST).exists() or (part_folder(folder) / MANIFEST).exists():
        raise DataError(
            f"{folder} holds vectors of a corpus that does not change; choose another folder for those of a collection"
        )
    places, plans = _places(folder, parts, kind)
    with ExitStack() as stack:
        count = 0
        if not all((place / MANIFEST).exists() for place in places):
            require_writable_folder(folder)
            fault = f"another process is writing the vectors {folder}"
            stack.enter_context(locked(folder / LOCK, fault, FOREVER))
            count = _write_missing(folder, places, plans, parts, kind, remedy, most, progress)
        yield count


def opened(folder: str | Path, parts: Parts, kind: Kind[S], remedy: str) -> list[S]:
    """What is kept of each segment's documents; DataError, ending in `remedy`, where it is missing, damaged or of another plan."""
    each = zip(*_places(Path(folder), parts, kind), strict=True)
    return [kind.open(place, plan, remedy) for place, plan in each]


def _places(folder: Path, parts: Parts, kind: Kind[S]) -> tuple[list[Path], list[dict[str, Any]]]:
    """The folder of each segment, and its plan."""
    names = [name_of(segment) for segment, _ in parts]
    plans = [kind.plan(name, len(segment.texts)) for name, (segment, _) in zip(names, parts, strict=True)]
    return [folder / name for name in names], plans


def _write_missing(
    folder: Path,
    places: Sequence[Path],
    plans: Sequence[dict[str, Any]],
    parts: Parts,
    kind: Kind[S],
    remedy: str,
    most: float,
    progress: bool,
) -> int:
    """How many documents were encoded."""
    old = [place for place in folder.iterdir() if place.suffix != ".part" and (place / MANIFEST).exists()]
    known = [Known(place, kind, plans[0]) for place in old]
    missing = [
        Missing(place, plan, *part, kind, known)
        for place, plan, part in zip(places, plans, parts, strict=True)
        if place not in old
    ]
    count = sum(len(each.unknown) for each in missing)
    if count > most:
        raise DataError(
            f"{count:,} documents of the collection have no vectors in {folder}, a retriever encodes at most {most:,}; {remedy}"
        )
    with progress_bar(desc="embedding", total=count, unit=" documents", disable=not progress) as bar:
        for each in missing:
            each.write(bar)
    for place in folder.iterdir():
        whole = place.with_name(place.name.removesuffix(".part"))
        if place.is_dir() and place.suffix != LEARNED and whole not in places:
            delete_folder(place, first=MANIFEST)
    return count


def live_parts(documents: Any) -> Parts | None:
    """The segments of a collection's documents; None for those of a corpus file."""
    return getattr(documents, "live_parts", None)


def name_of(segment: OpenSegment) -> str:
    """The name of a segment's folder."""
    facts = [segment.part.serial, asdict(segment.part)["files"]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
