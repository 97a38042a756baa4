"""A change of a collection: the parts of its next generation, written beside those that stand. `commit` makes them count."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from gemkr.collection import policy
from gemkr.collection.generation import Generation, sorted_places
from gemkr.collection.manifest import Manifest, Part, part_folder
from gemkr.collection.segment import OpenSegment, check_files, docs_of, open_negative, open_segment
from gemkr.collection.segment_writer import SegmentWriter, sync_part, write_negative, write_places
from gemkr.data.corpus import document_fault
from gemkr.data.spilled import DistinctIds
from gemkr.errors import DataError
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Document

CHUNK = 4096


class Change:
    """The parts of the next generation while they are put together; `before` is the one that stands. Segments whose serials are
    in `frozen` are being merged elsewhere: they stay until `adopt`."""

    def __init__(self, before: Generation, frozen: frozenset[int] = frozenset()) -> None:
        self.before, self.folder, self.frozen = before, before.folder, frozen
        self.manifest = before.manifest
        self.segments = list(before.segments)
        self.negatives = list(before.negatives)
        self.deleted = before.deleted
        self._serial = before.manifest.next_serial

    def append(
        self,
        documents: Iterable[Document],
        tokenizer: Callable[[], Tokenizer],
        *,
        replace: bool,
        memory_limit: int | None = None,
        processes: int = 1,
    ) -> None:
        """A segment of new documents. Those whose id is there are refused, or with `replace` take the old ones' place at the end.

        DataError names a document that cannot be taken.
        """
        replaced: list[np.ndarray] = []
        checked = self._checked(documents, replaced if replace else None)
        first = next(checked, None)
        if first is None:
            return
        part = self._write(
            lambda writer: writer.add(chain([first], checked), tokenizer(), processes), memory_limit
        )
        if replaced:
            self.remove(np.concatenate(replaced, axis=1))
        self.segments.append(part)

    def _checked(
        self, documents: Iterable[Document], replaced: list[np.ndarray] | None
    ) -> Iterator[Document]:
        new = DistinctIds(self.folder)
        stream = iter(documents)
        while chunk := list(islice(stream, CHUNK)):
            seen: set[str] = set()
            for document in chunk:
                fault = document_fault(document)
                if fault is None and document.image == "":
                    fault = f"the document {document.doc_id!r} has an empty image id"
                if fault is None and document.doc_id in seen:
                    fault = f"the document id {document.doc_id!r} is given twice"
                if fault is not None:
                    raise DataError(f"{fault}; nothing was added to {self.folder}")
                seen.add(document.doc_id)
            ids = [document.doc_id for document in chunk]
            new.add(ids)
            found, segments, docs = self.before.documents.find(ids)
            if len(found) and replaced is None:
                raise DataError(
                    f"the document id {chunk[int(found.min())].doc_id!r} is already in the collection {self.folder}, nothing was "
                    "added; update it, or give the new document another id"
                )
            if len(found):
                replaced.append(self.places(segments, docs))
            yield from chunk
        twice = new.given_twice()
        if twice is not None:  # in two chunks
            raise DataError(f"the document id {twice!r} is given twice; nothing was added to {self.folder}")

    def places(self, segments: np.ndarray, docs: np.ndarray) -> np.ndarray:
        """int64[2, n]: documents of segments by position, as serials and documents."""
        serials = np.array([segment.part.serial for segment in self.before.segments], np.int64)
        return np.stack([serials[segments], docs])

    def remove(self, places: np.ndarray) -> None:
        """Delete the documents at `places` int64[2, n]: a negative segment of them, with those of small ones before it."""
        if not places.shape[1]:
            return
        self.deleted = sorted_places(np.concatenate([self.deleted, places], axis=1))
        size = sum(self._tokens_at(places))
        while self.negatives and self.negatives[-1].part.tokens <= max(
            policy.FACTOR * size, policy.SMALL_TOKENS
        ):
            absorbed = self.negatives.pop()
            size += absorbed.part.tokens
            places = np.concatenate([places, absorbed.places], axis=1)
        self._add_negative(places)

    def settle(self) -> None:
        """Merge small segments at the end, so that many small changes leave few segments, and drop those without documents."""
        for at in reversed(range(len(self.segments))):
            segment = self.segments[at]
            if segment.part.serial not in self.frozen and len(self._deleted_of(at)) == len(segment.index):
                self._replace(at, at + 1, [])
        frozen = (at for at, segment in enumerate(self.segments) if segment.part.serial in self.frozen)
        first = 1 + max(frozen, default=-1)
        free = range(first, len(self.segments))
        last = policy.tail(
            [self.segments[at].part.tokens for at in free],
            policy.LARGEST_OF_ADD,
            [self._negative_tokens(at) for at in free],
        )
        if len(last) > 1:
            self.merge(first + last.start, len(self.segments))

    def merge(self, start: int, stop: int) -> None:
        """Replace segments [start, stop) by one of their live documents.

        DataError for one that does not fit its checksums: a copy would get new ones that hide the damage.
        """
        merged = self.segments[start:stop]
        gone_by = [] if self.before.manifest.deleted is None else [self.before.manifest.deleted]
        for part in (*(segment.part for segment in merged), *gone_by):
            if part.serial < self.before.manifest.next_serial:
                check_files(self.folder, part, contents=True)
        deleted = [self._deleted_of(at) for at in range(start, stop)]

        def copy(writer: SegmentWriter) -> None:
            for segment, gone in zip(merged, deleted, strict=True):
                writer.copy(segment, gone)

        live = sum(len(s.index) - len(gone) for s, gone in zip(merged, deleted, strict=True))
        self._replace(start, stop, [self._write(copy, None)] if live else [])

    def adopt(
        self, place: Path, part: Part | None, merged: Sequence[OpenSegment], gone: Sequence[np.ndarray]
    ) -> None:
        """Put a segment that was merged in the folder `place` into the place of those it was made of, without their documents
        `gone` int64[n] each, ascending, that were deleted before; None where all were.

        DataError where another change has merged these segments.
        """
        serials = [segment.part.serial for segment in self.segments]
        start = serials.index(merged[0].part.serial) if merged[0].part.serial in serials else 0
        stop = start + len(merged)
        if serials[start:stop] != [segment.part.serial for segment in merged]:
            raise DataError(
                f"segments of the collection {self.folder} were merged by an older gemkr meanwhile; compact it again"
            )
        late = [np.zeros(0, np.int64)]  # documents of the new segment that were deleted during the merge
        first = 0
        for at, before in zip(range(start, stop), gone, strict=True):
            new = np.setdiff1d(self._deleted_of(at), before, assume_unique=True)
            late.append(first + new - np.searchsorted(before, new))
            first += len(self.segments[at].index) - len(before)
        if part is None:
            self._replace(start, stop, [])
            return
        kept = replace(part, serial=self._next())
        os.rename(part_folder(place, part), part_folder(self.folder, kept))
        self._replace(start, stop, [open_segment(self.folder, kept, self.manifest.tokenizer)])
        docs = np.concatenate(late)
        self.remove(np.stack([np.full(len(docs), kept.serial), docs]))

    def _replace(self, start: int, stop: int, by: list[OpenSegment]) -> None:
        """Put `by` in the place of segments [start, stop), whose deleted documents are forgotten."""
        serials = [segment.part.serial for segment in self.segments[start:stop]]
        self.segments[start:stop] = by
        self.deleted = self.deleted[:, ~np.isin(self.deleted[0], serials)]
        touched = [negative for negative in self.negatives if np.isin(negative.places[0], serials).any()]
        self.negatives = [negative for negative in self.negatives if negative not in touched]
        left = [negative.places[:, ~np.isin(negative.places[0], serials)] for negative in touched]
        if left and sum(places.shape[1] for places in left):
            self._add_negative(np.concatenate(left, axis=1))

    def finish(self) -> Manifest:
        """Write what is left to be written, and wait for the disk; the manifest of the next generation, the old one where nothing
        was changed."""
        before = self.before
        same = np.array_equal(self.deleted, before.deleted)
        if (
            before.manifest.generation > 0
            and same
            and self.segments == list(before.segments)
            and self.negatives == list(before.negatives)
        ):
            return before.manifest
        deleted = before.manifest.deleted if same else None
        if not same and self.deleted.shape[1]:
            deleted = write_places(self.folder, self._next(), self.deleted)
        self.manifest = before.manifest.next(
            next_serial=self._serial,
            segments=tuple(segment.part for segment in self.segments),
            negatives=tuple(negative.part for negative in self.negatives),
            deleted=deleted,
        )
        for part in self.manifest.parts:
            if part.serial >= before.manifest.next_serial:
                sync_part(self.folder, part)
        return self.manifest

    def _write(self, fill: Callable[[SegmentWriter], None], memory_limit: int | None) -> OpenSegment:
        writer = SegmentWriter(self.folder, self._next(), self.manifest.tokenizer, memory_limit)
        try:
            fill(writer)
            part = writer.finish()
        finally:
            writer.close()
        return open_segment(self.folder, part, self.manifest.tokenizer)

    def _add_negative(self, places: np.ndarray) -> None:
        """Its documents in the order of the segments, which a merge elsewhere may make another than that of their serials."""
        docs = [places[1, places[0] == segment.part.serial] for segment in self.segments]
        serials = np.repeat([segment.part.serial for segment in self.segments], [len(each) for each in docs])
        ordered = np.stack([serials, np.concatenate([np.sort(each) for each in docs])])
        part = write_negative(self.folder, self._next(), self.manifest.tokenizer, ordered, self.segments)
        self.negatives.append(open_negative(self.folder, part, self.manifest.tokenizer))

    def _tokens_at(self, places: np.ndarray) -> Iterator[int]:
        by_serial = {segment.part.serial: segment.index for segment in self.segments}
        return (by_serial[serial].doc_length(doc) for serial, doc in places.T.tolist())

    def _deleted_of(self, at: int) -> np.ndarray:
        return docs_of(self.deleted, self.segments[at].part.serial)

    def _negative_tokens(self, at: int) -> int:
        """Tokens of the negative segments that a merge of the segment would write anew."""
        serial = self.segments[at].part.serial
        return sum(n.part.tokens for n in self.negatives if (n.places[0] == serial).any())

    def _next(self) -> int:
        self._serial += 1
        return self._serial - 1
