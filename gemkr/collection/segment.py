"""Parts of a collection as they are opened: segments, negative segments, the list of deleted documents.

Knows no manifest beyond a part's record.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.collection.manifest import FileRecord, Part, TokenizerRecord, part_folder
from gemkr.collection.texts import open_texts
from gemkr.data.texts import TextTable
from gemkr.errors import DataError, FMIndexError
from gemkr.fm_index import FMIndex

INDEX, PLACES = "index.fmi", "places.npy"
WAY_OUT = "restore it from a copy, or make the collection again"


@dataclass(frozen=True, eq=False)
class OpenSegment:
    """A segment, mapped into memory."""

    part: Part
    index: FMIndex
    texts: TextTable


@dataclass(frozen=True, eq=False)
class OpenNegative:
    """A negative segment: `places` int64[2, n] are the serials of the segments of its documents, and the documents there, in the
    order of the segments."""

    part: Part
    index: FMIndex
    places: np.ndarray


def check_files(folder: Path, part: Part, *, contents: bool = False) -> None:
    """Raise DataError unless the part's files are there and have their sizes, and `places.npy`, which is read whole anyway, its
    checksum; with `contents` all have theirs."""
    for name, record in part.files.items():
        path = part_folder(folder, part) / name
        try:
            size = path.stat().st_size
            same = size == record.bytes and (
                not (contents or name == PLACES) or FileRecord.of(path) == record
            )
        except OSError as error:
            raise DataError(
                f"part {part.name} of the collection {folder} is damaged: {name} cannot be read ({error.strerror}); {WAY_OUT}"
            ) from error
        if size != record.bytes:
            raise DataError(
                f"part {part.name} of the collection {folder} is damaged: {name} has {size:,} bytes in place of "
                f"{record.bytes:,}; {WAY_OUT}"
            )
        if not same:
            raise DataError(
                f"part {part.name} of the collection {folder} is damaged: {name} does not fit its checksum; {WAY_OUT}"
            )


def open_segment(folder: Path, part: Part, tokenizer: TokenizerRecord) -> OpenSegment:
    """Map a segment: milliseconds, whatever its size. DataError where it is missing, damaged, or of another tokenizer."""
    check_files(folder, part)
    index = _open_index(folder, part, tokenizer)
    try:
        texts = open_texts(part_folder(folder, part), index.doc_ids)
    except (OSError, ValueError) as error:
        raise DataError(
            f"part {part.name} of the collection {folder} is damaged: its texts cannot be read ({error}); {WAY_OUT}"
        ) from error
    return OpenSegment(part, index, texts)


def open_negative(folder: Path, part: Part, tokenizer: TokenizerRecord) -> OpenNegative:
    """Map a negative segment; raises as `open_segment`."""
    places = open_places(folder, part)
    return OpenNegative(part, _open_index(folder, part, tokenizer), places)


def open_places(folder: Path, part: Part) -> np.ndarray:
    """int64[2, n]: serials of segments, and documents there; raises as `open_segment`."""
    check_files(folder, part)
    try:
        return np.load(part_folder(folder, part) / PLACES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"part {part.name} of the collection {folder} is damaged: {PLACES} cannot be read ({error}); {WAY_OUT}"
        ) from error


def docs_of(places: np.ndarray, serial: int) -> np.ndarray:
    """int64[n], ascending: the documents of one segment among `places` int64[2, n]; a view."""
    start, stop = np.searchsorted(places[0], [serial, serial + 1])
    return places[1, start:stop]


def _open_index(folder: Path, part: Part, tokenizer: TokenizerRecord) -> FMIndex:
    try:
        index = FMIndex.load(part_folder(folder, part) / INDEX)
    except FMIndexError as error:
        raise DataError(
            f"part {part.name} of the collection {folder} is damaged ({error}); {WAY_OUT}"
        ) from error
    if (index.tokenizer_fingerprint, index.vocab_size) != (tokenizer.fingerprint, tokenizer.vocab_size):
        raise DataError(
            f"part {part.name} of the collection {folder} was built with another tokenizer than the collection; {WAY_OUT}"
        )
    if len(index) != part.documents:
        raise DataError(
            f"part {part.name} of the collection {folder} holds {len(index):,} documents in place of {part.documents:,}; {WAY_OUT}"
        )
    return index
