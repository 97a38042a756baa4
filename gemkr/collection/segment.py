"""Parts of a collection as they are opened and written: segments, negative segments, the list of deleted documents.

Knows no manifest beyond a part's record.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemkr.collection.manifest import FileRecord, Part, TokenizerRecord, part_folder
from gemkr.collection.texts import SegmentTexts, open_texts
from gemkr.data.texts import TextTable
from gemkr.errors import DataError, FMIndexError
from gemkr.files import sync_folder
from gemkr.fm_index import FMIndex
from gemkr.text.tokenization import tokenize_corpus
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Document

INDEX, PLACES = "index.fmi", "places.npy"
COPIED_DOCUMENTS = 4096
WAY_OUT = "restore it from a copy, or make the collection again"


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
            same = size == record.bytes and (not (contents or name == PLACES) or _record(path) == record)
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


class TokenSpill:
    """Token ids of documents, collected in an unnamed temporary file: memory is 8 bytes a document."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
        self._folder = folder
        self._stream = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives until the index is built
        self._lengths: list[np.ndarray] = []
        self.size = 0

    def add(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        self._stream.write(np.ascontiguousarray(tokens, self._dtype))
        self._lengths.append(np.asarray(lengths, np.int64))
        self.size += len(tokens)

    def add_from(self, index: FMIndex, docs: np.ndarray) -> None:
        """The tokens of documents int64[n] of an index, as it holds them."""
        for start in range(0, len(docs), COPIED_DOCUMENTS):
            tokens, offsets = index.extract_many(docs[start : start + COPIED_DOCUMENTS])
            self.add(tokens.astype(self._dtype), np.diff(offsets))

    def build(
        self,
        doc_ids: Sequence[str] | None,
        tokenizer: TokenizerRecord,
        memory_limit: int | None,
        threads: int,
    ) -> FMIndex:
        self._stream.flush()
        lengths = np.concatenate([np.zeros(1, np.int64), *self._lengths])
        tokens = np.memmap(self._stream, self._dtype, "r") if self.size else np.zeros(0, self._dtype)
        return FMIndex.build_flat(
            tokens,
            np.cumsum(lengths),
            doc_ids,
            tokenizer=Fingerprint.of(tokenizer),
            memory_limit=memory_limit,
            threads=threads,
            work_folder=self._folder,
        )


class SegmentWriter:
    """Writes a new segment: documents of other segments first, then new ones."""

    def __init__(self, folder: Path, serial: int, tokenizer: TokenizerRecord) -> None:
        self.serial, self._tokenizer = serial, tokenizer
        self._collection = folder
        self._folder = _new_folder(folder, serial)
        self._texts = SegmentTexts(self._folder)
        self._spill = TokenSpill(self._folder, tokenizer.vocab_size)
        self.doc_ids: list[str] = []

    def copy(self, segment: OpenSegment, deleted: np.ndarray) -> None:
        """The documents of a segment that are not `deleted` int64[n], ascending."""
        self._spill.add_from(segment.index, np.setdiff1d(np.arange(len(segment.index)), deleted))
        for start, stop in _runs(len(segment.index), deleted):
            self._texts.copy(segment.texts, start, stop)
            self.doc_ids += segment.texts.ids[start:stop]

    def add(self, documents: Iterable[Document], tokenizer: Tokenizer, processes: int = 1) -> None:
        """New documents, read once and tokenized."""

        def written() -> Iterator[Document]:
            for document in documents:
                self._texts.add(document)
                yield document

        corpus = tokenize_corpus(written(), tokenizer, processes=processes)
        self._spill.add(corpus.tokens, np.diff(corpus.offsets))
        self.doc_ids += corpus.doc_ids

    def finish(self, memory_limit: int | None = None, threads: int = 0) -> Part:
        """Build the index and write all; the part's record."""
        self._texts.finish(self.doc_ids)
        index = self._spill.build(self.doc_ids, self._tokenizer, memory_limit, threads)
        index.save(self._folder / INDEX)
        return _finished(self._collection, self.serial, len(index), index.n_tokens)

    def close(self) -> None:
        self._texts.close()


def write_negative(
    folder: Path,
    serial: int,
    tokenizer: TokenizerRecord,
    places: np.ndarray,
    segments: Sequence[OpenSegment],
) -> Part:
    """A negative segment of the documents at `places` int64[2, n], in the order of the segments."""
    target = _new_folder(folder, serial)
    spill = TokenSpill(target, tokenizer.vocab_size)
    for segment in segments:
        spill.add_from(segment.index, places[1, places[0] == segment.part.serial])
    index = spill.build(None, tokenizer, None, 0)
    index.save(target / INDEX)
    np.save(target / PLACES, places)
    return _finished(folder, serial, len(index), index.n_tokens)


def write_places(folder: Path, serial: int, places: np.ndarray) -> Part:
    """The list of deleted documents: `places` int64[2, n], ascending."""
    np.save(_new_folder(folder, serial) / PLACES, places)
    return _finished(folder, serial, places.shape[1], 0)


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
    files = {path.name: _record(path) for path in sorted(target.iterdir())}
    return Part(serial, documents, tokens, files)


def _record(path: Path) -> FileRecord:
    with open(path, "rb") as stream:
        return FileRecord(
            os.fstat(stream.fileno()).st_size, hashlib.file_digest(stream, "sha256").hexdigest()
        )


def _runs(count: int, deleted: np.ndarray) -> Iterator[tuple[int, int]]:
    """The ranges [start, stop) of documents between deleted ones."""
    start = 0
    for doc in [*deleted.tolist(), count]:
        if start < doc:
            yield start, doc
        start = doc + 1
