"""Parts of a collection as they are written: segments, negative segments, the list of deleted documents. Knows no manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.collection.manifest import FileRecord, Part, TokenizerRecord, part_folder
from gemkr.collection.segment import INDEX, PLACES, OpenSegment
from gemkr.collection.texts import SegmentTexts
from gemkr.files import sync_folder
from gemkr.fm_index import FMIndex, IndexWriteError
from gemkr.fm_index.plan import memory_left
from gemkr.text.tokenization import tokenized_parts
from gemkr.text.tokenizer import Tokenizer
from gemkr.text.word_tokens import REMEMBERED_BYTES
from gemkr.types import Document

IndexPart = tuple[np.ndarray, np.ndarray, Sequence[str] | None]
"""Of `FMIndex.build_parts`: tokens of some documents, how many each has, and their ids."""
COPIED_DOCUMENTS = 4096


@dataclass(frozen=True)
class Fingerprint:
    """A tokenizer as an index records it."""

    vocab_size: int
    value: str

    def fingerprint(self) -> str:
        return self.value

    @classmethod
    def of(cls, record: TokenizerRecord) -> Fingerprint:
        return cls(record.vocab_size, record.fingerprint)


class SegmentWriter:
    """Writes a new segment: documents of other segments first, then new ones. They are read by `finish`, a few at a time."""

    def __init__(
        self, folder: Path, serial: int, tokenizer: TokenizerRecord, memory_limit: int | None = None
    ) -> None:
        """`memory_limit`: bytes of the whole process, or None."""
        self.serial, self._tokenizer = serial, tokenizer
        self._collection, self._limit = folder, memory_limit
        self._folder = _new_folder(folder, serial)
        self._texts = SegmentTexts(self._folder)
        self._sources: list[Callable[[int | None], Iterator[IndexPart]]] = []

    def copy(self, segment: OpenSegment, deleted: np.ndarray) -> None:
        """The documents of a segment that are not `deleted` int64[n], ascending."""
        self._sources.append(lambda left: self._copied(segment, deleted))

    def add(self, documents: Iterable[Document], tokenizer: Tokenizer, processes: int = 1) -> None:
        """New documents, read once and tokenized."""
        self._sources.append(lambda left: self._tokenized(documents, tokenizer, processes, left))

    def finish(self) -> Part:
        """Read all, build the index and write it; the part's record. Raises what reading does, IndexBuildError and OSError."""
        left = None if self._limit is None else memory_left(self._limit)
        with closing(self._parts(left)) as parts:
            documents, tokens = _write_index(parts, self._folder, self._tokenizer, left)
        self._texts.finish()
        return _finished(self._collection, self.serial, documents, tokens)

    def close(self) -> None:
        self._texts.close()

    def _parts(self, left: int | None) -> Iterator[IndexPart]:
        for source in self._sources:
            yield from source(left)

    def _copied(self, segment: OpenSegment, deleted: np.ndarray) -> Iterator[IndexPart]:
        for start in range(0, len(segment.index), COPIED_DOCUMENTS):
            stop = min(start + COPIED_DOCUMENTS, len(segment.index))
            gone = deleted[slice(*np.searchsorted(deleted, [start, stop]))]
            for run in _runs(start, stop, gone):
                self._texts.copy(segment.texts, *run)
            docs = np.setdiff1d(np.arange(start, stop), gone, assume_unique=True)
            ids = [segment.texts.ids[doc] for doc in docs.tolist()]
            self._texts.add_ids(ids)
            yield *_tokens(segment.index, docs), ids

    def _tokenized(
        self, documents: Iterable[Document], tokenizer: Tokenizer, processes: int, left: int | None
    ) -> Iterator[IndexPart]:
        def written() -> Iterator[Document]:
            for document in documents:
                self._texts.add(document)
                yield document

        remembered = REMEMBERED_BYTES if left is None else min(REMEMBERED_BYTES, left // 8)
        for part in tokenized_parts(written(), tokenizer, processes=processes, remembered_bytes=remembered):
            self._texts.add_ids(part.doc_ids)
            yield part.tokens, part.counts, part.doc_ids


def write_negative(
    folder: Path,
    serial: int,
    tokenizer: TokenizerRecord,
    places: np.ndarray,
    segments: Sequence[OpenSegment],
) -> Part:
    """A negative segment of the documents at `places` int64[2, n], in the order of the segments."""
    target = _new_folder(folder, serial)

    def parts() -> Iterator[IndexPart]:
        for segment in segments:
            docs = places[1, places[0] == segment.part.serial]
            for start in range(0, len(docs), COPIED_DOCUMENTS):
                yield *_tokens(segment.index, docs[start : start + COPIED_DOCUMENTS]), None

    documents, tokens = _write_index(parts(), target, tokenizer)
    np.save(target / PLACES, places)
    return _finished(folder, serial, documents, tokens)


def write_places(folder: Path, serial: int, places: np.ndarray) -> Part:
    """The list of deleted documents: `places` int64[2, n], ascending."""
    np.save(_new_folder(folder, serial) / PLACES, places)
    return _finished(folder, serial, places.shape[1], 0)


def _tokens(index: FMIndex, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of documents int64[n], as the index holds them, one after the other, and int64[n] how many each has."""
    tokens, offsets = index.extract_many(docs)
    return tokens, np.diff(offsets)


def _write_index(
    parts: Iterable[IndexPart],
    folder: Path,
    tokenizer: TokenizerRecord,
    memory_limit: int | None = None,
) -> tuple[int, int]:
    """Build the index of a part in its folder; (documents, tokens). Raises IndexBuildError, OSError, and what `parts` raise."""
    try:
        index = FMIndex.build_parts(
            parts,
            tokenizer=Fingerprint.of(tokenizer),
            memory_limit=memory_limit,
            work_folder=folder,
        )
        index.save(folder / INDEX)
    except IndexWriteError as error:
        if isinstance(error.__cause__, OSError):  # who changes the collection says it
            raise error.__cause__ from None
        raise
    return len(index), index.n_tokens


def sync_part(folder: Path, part: Part) -> None:
    """Make sure that a part is on the disk. Raises OSError."""
    target = part_folder(folder, part)
    for name in part.files:
        with open(target / name, "rb") as stream:
            os.fsync(stream.fileno())
    sync_folder(target)
    sync_folder(target.parent)


def _new_folder(folder: Path, serial: int) -> Path:
    target = part_folder(folder, Part(serial, 0, 0, {}))
    target.mkdir(parents=True)
    return target


def _finished(folder: Path, serial: int, documents: int, tokens: int) -> Part:
    target = part_folder(folder, Part(serial, 0, 0, {}))
    files = {path.name: FileRecord.of(path) for path in sorted(target.iterdir())}
    return Part(serial, documents, tokens, files)


def _runs(start: int, stop: int, deleted: np.ndarray) -> Iterator[tuple[int, int]]:
    """The ranges of documents of [start, stop) between deleted ones."""
    for doc in [*deleted.tolist(), stop]:
        if start < doc:
            yield start, doc
        start = doc + 1
