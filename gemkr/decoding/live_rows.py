"""The rows of an index that a device holds: those of each segment, one segment behind the other, without deleted documents.

An index in segments without the rows of deleted documents is an index of the live ones, row by row in the same order: what a
token may follow is then seen from presence alone, and no count need be subtracted. numpy only; it knows no device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.errors import DecodingError
from gemkr.fm_index import IndexQueryError
from gemkr.interfaces import SegmentedTokens, TokenIndex

CHUNK_ROWS = 1 << 20
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class LiveRows:
    """How rows and spans of `index` are numbered on the device; S of its segments hold a live document, one that is not `segmented`
    is a segment itself.

    `starts` int64[S + 1]: the first live row of each segment, and their number n. `places` int64[S]: which segments these are.
    `offsets` int64[S]: the first row of each where deleted documents count too, and `gone` int64[d], ascending: the rows of deleted
    documents in this numbering.
    """

    index: Any
    segmented: bool
    starts: np.ndarray
    places: np.ndarray
    offsets: np.ndarray
    gone: np.ndarray

    @classmethod
    def read(cls, index: TokenIndex) -> tuple[LiveRows, np.ndarray, np.ndarray]:
        """The rows; int32[n]: the token that follows each, V where the document ends; int64[V, S]: in each segment the first row
        that a token may have led to. Reads every row, and follows every deleted document once.

        Raises DecodingError for an index without live rows, for 2^31 live rows and more, and for one that has neither rows nor
        segments of them.
        """
        segmented = isinstance(index, SegmentedTokens)
        parts = zip(index.positives, index.deleted, strict=True) if segmented else [(index, _NONE)]
        every, sizes, firsts, gones = [], [], [], []
        for part, deleted in parts:
            follow = _follow(part)
            gone = _rows_of(part, follow, deleted)
            every.append(np.delete(follow, gone))
            sizes.append(len(follow))
            gones.append(gone)
            tokens = np.arange(index.vocab_size, dtype=np.int64)
            first, _ = part.extend_many(np.zeros_like(tokens), np.full_like(tokens, len(follow)), tokens)
            firsts.append(first - np.searchsorted(gone, first))
        places = np.flatnonzero([len(follow) for follow in every])
        if not len(places):
            raise DecodingError("the index holds no documents, so there is nothing to put on the device")
        starts = np.cumsum([0, *(len(every[p]) for p in places)], dtype=np.int64)
        if starts[-1] >= 2**31:
            raise DecodingError(
                f"the device index holds fewer than 2^31 rows, the index has {starts[-1]}; use the index on the host"
            )
        offsets = np.cumsum([0, *(sizes[p] for p in places)], dtype=np.int64)[:-1]
        gone = np.concatenate([gones[p] + offset for p, offset in zip(places, offsets, strict=True)])
        first = np.stack([firsts[p] + start for p, start in zip(places, starts[:-1], strict=True)], axis=1)
        return (
            cls(index, segmented, starts, places, offsets, gone),
            np.concatenate([every[p] for p in places]),
            first,
        )

    def ranges(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """int64[2, n, S]: the live rows [lo, hi) of each segment behind spans of the index, int64[n] each."""
        if self.segmented:
            rows = self.index.ranges(lo, hi)[:, self.places] + self.offsets[:, None]
            return np.moveaxis(rows - np.searchsorted(self.gone, rows), 2, 0)
        return np.stack([lo, hi])[:, :, None]

    def spans(self, ranges: np.ndarray, clues: Sequence[Sequence[int]]) -> np.ndarray:
        """int64[2, n]: the spans of the index for clues with the live rows `ranges` int64[2, n, S]. Of an index in segments they
        are searched, one batched call for each token of the longest."""
        if not self.segmented:
            return ranges[:, :, 0]
        root = self.index.root
        spans = np.repeat(np.array([[root.lo], [root.hi]], dtype=np.int64), len(clues), axis=1)
        lengths = np.array([len(clue) for clue in clues], dtype=np.int64)
        for place in range(max(lengths, default=0)):
            longer = np.flatnonzero(lengths > place)
            tokens = np.array([clues[i][place] for i in longer], dtype=np.int64)
            spans[:, longer] = self.index.extend_many(*spans[:, longer], tokens)
        return spans


def _follow(index: TokenIndex) -> np.ndarray:
    """int32[rows]: the token that follows each row, V where the document ends."""
    root = index.root
    if root.lo != 0 or root.hi >= 2**31:
        raise DecodingError(
            f"the device index holds rows [0, 2^31), the index has rows [{root.lo}, {root.hi}); use the index on the host"
        )
    follow = np.full(root.hi, index.vocab_size, dtype=np.int32)
    for start in range(0, root.hi, CHUNK_ROWS):
        rows = np.arange(start, min(start + CHUNK_ROWS, root.hi), dtype=np.int64)
        try:
            indptr, tokens, _ = index.next_tokens_many(rows, rows + 1)
        except IndexQueryError as error:
            raise DecodingError(
                "the device index needs an index of rows, or segments of them, this one has shards; use the index on the host"
            ) from error
        follow[rows[np.diff(indptr) > 0]] = tokens
    return follow


def _rows_of(index: TokenIndex, follow: np.ndarray, docs: np.ndarray) -> np.ndarray:
    """int64, ascending: the rows of documents. Row d is the beginning of document d; a row and the token that follows it lead to
    the next. One batched call for each token of the longest document."""
    rows, found = np.asarray(docs, dtype=np.int64), [_NONE]
    while len(rows):
        found.append(rows)
        rows = rows[follow[rows] < index.vocab_size]
        rows = np.asarray(index.extend_many(rows, rows + 1, follow[rows].astype(np.int64))[0])
    return np.sort(np.concatenate(found))
