"""SegmentedIndex: several FM-indexes as one, minus the documents that were deleted from them.

A negative segment is an index of deleted documents; its counts are subtracted, so every answer is exactly that of an index of
the live documents. Knows indexes and arrays, not folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

import gemkr.fm_index._core as _core
from gemkr.fm_index._core import Span
from gemkr.fm_index.coded import CodedIndex
from gemkr.fm_index.errors import IndexQueryError
from gemkr.fm_index.ids import NumberedIds
from gemkr.fm_index.index import FMIndex

_NONE = np.zeros(0, np.int64)


class SegmentedIndex(CodedIndex):
    """Positive segments in order, without the documents that their negative segments hold; the queries of `FMIndex`.

    Documents are numbered 0, 1, ... over the live ones, in the order of segments. A span here is not a range of rows but a
    code of its pattern: take spans from this index, never compute with them, but `span.count` is exact, equal patterns have
    equal spans, and Span(lo, lo + k) stands for the first k live occurrences, in the order that an index of the live documents
    has them; `documents` alone takes such a part. Patterns have at most 65,535 tokens. Immutable; any number of threads may
    read. Cost: about that of one index for each segment that holds the pattern; where deleted documents hold it too, counts
    are added up, O(tokens that may follow) for each segment.
    """

    def __init__(
        self,
        positives: Sequence[FMIndex],
        deleted: Sequence[np.ndarray] | None = None,
        negatives: Sequence[FMIndex] = (),
        numbers: Sequence[np.ndarray] = (),
        *,
        vocab_size: int | None = None,
        tokenizer_fingerprint: str = "",
    ) -> None:
        """`deleted[s]` int64[n], ascending: the deleted documents of segment s. `numbers[j]` int64[documents of negative j],
        ascending: which documents these are, numbered over all positive segments with the deleted ones counted.

        `vocab_size` and `tokenizer_fingerprint` are needed where there is no segment. Raises IndexQueryError where the parts
        do not belong together. Cost: O(segments + deleted documents).
        """
        self.positives: tuple[FMIndex, ...] = tuple(positives)
        self.deleted = [np.ascontiguousarray(each, np.int64) for each in deleted or [_NONE] * len(positives)]
        numbers = [np.ascontiguousarray(each, np.int64) for each in numbers]
        parts = (*self.positives, *negatives)
        if not parts and vocab_size is None:
            raise IndexQueryError("an index of no segments needs a vocab_size")
        self.vocab_size: int = parts[0].vocab_size if parts else int(vocab_size or 0)
        known = {part.tokenizer_fingerprint for part in parts} or {tokenizer_fingerprint}
        if len(known) > 1:
            raise IndexQueryError("the segments were built with different tokenizers; build all with one")
        (self.tokenizer_fingerprint,) = known
        self._core = _core.Segments(
            list(self.positives), self.deleted, list(negatives), numbers, self.vocab_size
        )
        self.segment_count = len(parts)
        self.doc_ids: Sequence[str] = LiveIds(self.positives, self.deleted)

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return f"SegmentedIndex({self.segment_count} segments, {len(self)} documents, {self.n_tokens} tokens)"

    @property
    def n_tokens(self) -> int:
        """Live tokens."""
        return self._core.n_tokens

    @property
    def n_rows(self) -> int:
        return self._core.n_rows

    @property
    def threads(self) -> int:
        """Threads of the batch queries; setting 0 means all processors."""
        return self._core.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._core.threads = threads

    @property
    def corpus_hash(self) -> str:
        """Hash (16 hex digits) of the segments and of what is deleted from each."""
        digest = hashlib.sha256()
        for index, deleted in zip(self.positives, self.deleted, strict=True):
            digest.update(f"{index.corpus_hash} {len(deleted)} ".encode() + deleted.tobytes())
        return digest.hexdigest()[:16]

    def extend_many(
        self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._core.extend_many(lo, hi, tokens)

    def next_tokens_many(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._core.next_tokens_many(lo, hi)

    def fill_mask(self, lo: np.ndarray, hi: np.ndarray, out: np.ndarray) -> None:
        self._core.fill_mask(lo, hi, out)

    def count_ends(self, span: Span) -> int:
        return self._core.count_ends(span.lo, span.hi)

    def documents(self, span: Span, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `FMIndex.documents`; for a part of a span O(segments x log(count)^2) places are looked up first."""
        _, docs, counts = self._core.documents_many([span.lo], [span.hi], limit)
        return docs, counts

    def documents_many(
        self, lo: np.ndarray, hi: np.ndarray, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._core.documents_many(lo, hi, limit)

    def only_document(self, span: Span) -> int | None:
        return self._core.only_document(span.lo, span.hi)

    def locate(self, span: Span, limit: int | None = None) -> np.ndarray:
        """(document, offset) of each live occurrence, int64[count, 2], sorted."""
        docs, ends = self._core.occurrences(span.lo, span.hi)
        return np.stack([docs, ends - span.length], axis=1)[:limit]

    def extract(self, doc: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        segment, inside = self.place(doc)
        return self.positives[segment].extract(inside, start, stop)

    def _extract_from(self, part: int, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.positives[part].extract_many(docs)

    def ranges(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """int64[n, positive segments, 2]: the rows [lo, hi) that spans have in each, those of deleted documents included."""
        return self._core.ranges(lo, hi)[:, : len(self.positives)]

    def place(self, doc: int) -> tuple[int, int]:
        """(positive segment, document there) of a document."""
        return self._core.place(doc)

    def doc_length(self, doc: int) -> int:
        segment, inside = self.place(doc)
        return self.positives[segment].doc_length(inside)

    def verify(self) -> None:
        """`FMIndex.verify` of every positive segment."""
        for index in self.positives:
            index.verify()


class LiveIds(NumberedIds):
    """The ids of the live documents of segments, each decoded when it is read."""

    def __init__(self, positives: Sequence[FMIndex], deleted: Sequence[np.ndarray]) -> None:
        self._ids = [index.doc_ids for index in positives]
        self._deleted = deleted
        counts = [len(index) - len(gone) for index, gone in zip(positives, deleted, strict=True)]
        self._ends = np.cumsum([0, *counts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _id(self, number: int) -> str:
        segment = int(np.searchsorted(self._ends, number, side="right")) - 1
        return self._ids[segment][live_place(self._deleted[segment], number - int(self._ends[segment]))]

    def __iter__(self) -> Iterator[str]:
        for ids, deleted in zip(self._ids, self._deleted, strict=True):
            gone = set(deleted.tolist())
            for doc in range(len(ids)):
                if doc not in gone:
                    yield ids[doc]


def live_place(deleted: np.ndarray, number: int) -> int:
    """Which document of a segment is its live document with this number; `deleted` ascending. O(log n) reads."""
    low, high = 0, len(deleted)
    while low < high:
        middle = (low + high) // 2
        if int(deleted[middle]) - middle <= number:
            low = middle + 1
        else:
            high = middle
    return number + low
