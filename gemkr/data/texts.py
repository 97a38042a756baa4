"""Texts of documents one behind the other as UTF-8 (title, text and image id of each), and the tables by which they are read in place.

`bounds` int64[3n + 1]: where each title, text and image id begins, and the end. `hashes` uint64[n], ascending, are those of the ids,
`docs` [n] the documents they belong to.
"""

from __future__ import annotations

import mmap
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import IO

import numpy as np

from gemkr.data.spilled import SpilledArray
from gemkr.fm_index.ids import hash_id, hash_ids
from gemkr.types import Document

COPIED = 1 << 24


class TextTable:
    """Texts in memory, or mapped into it; `ids` decodes the id of a document."""

    def __init__(
        self,
        ids: Sequence[str],
        bounds: np.ndarray,
        hashes: np.ndarray,
        docs: np.ndarray,
        data: bytes | mmap.mmap,
    ) -> None:
        self.ids, self.bounds, self.bytes = ids, bounds, data
        self._hashes, self._docs = hashes, docs

    def __len__(self) -> int:
        return len(self.ids)

    def document(self, doc: int) -> Document:
        a, b, c, d = self.bounds[3 * doc : 3 * doc + 4].tolist()
        image = self.bytes[c:d].decode() if c < d else None
        return Document(self.ids[doc], self.bytes[b:c].decode(), self.bytes[a:b].decode(), image)

    def number(self, doc_id: str) -> int | None:
        """The document with an id, None for none; a few microseconds, O(log n)."""
        try:
            wanted = hash_id(doc_id)
        except UnicodeEncodeError:  # nobody's
            return None
        hashes = memoryview(self._hashes)
        at = bisect_left(hashes, wanted)
        while at < len(hashes) and hashes[at] == wanted:
            if self.ids[doc := int(self._docs[at])] == doc_id:
                return doc
            at += 1
        return None

    def find(self, ids: Sequence[str], hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places int64[m] in `ids`, documents int64[m]) of the ids that are here; `hashes` uint64[n] are theirs.

        O(log n) reads for each id.
        """
        first = np.searchsorted(self._hashes, hashes)
        near = np.flatnonzero(self._hashes[np.minimum(first, len(self._hashes) - 1)] == hashes)
        places, docs = [], []
        for place in near.tolist():
            at = int(first[place])
            while at < len(self._hashes) and self._hashes[at] == hashes[place]:
                doc = int(self._docs[at])
                if self.ids[doc] == ids[place]:
                    places.append(place)
                    docs.append(doc)
                    break
                at += 1
        return np.array(places, np.int64), np.array(docs, np.int64)


class TextWriter:
    """Writes texts into a stream, and their `bounds` into what holds 64-bit integers and is empty."""

    def __init__(self, stream: IO[bytes], bounds: array | SpilledArray) -> None:
        self._stream, self.bounds = stream, bounds
        self._end = 0
        bounds.append(0)

    def add(self, document: Document) -> bytes:
        """What was written of the document."""
        parts = [part.encode() for part in (document.title, document.text, document.image or "")]
        for part in parts:
            self._end += len(part)
            self.bounds.append(self._end)
        data = b"".join(parts)
        self._stream.write(data)
        return data

    def copy(self, table: TextTable, start: int, stop: int) -> None:
        """Documents [start, stop) of another table, as they stand."""
        bounds = np.asarray(table.bounds[3 * start : 3 * stop + 1])
        for at in range(int(bounds[0]), int(bounds[-1]), COPIED):
            self._stream.write(table.bytes[at : min(at + COPIED, int(bounds[-1]))])
        self.bounds.extend(bounds[1:] - bounds[0] + self._end)
        self._end += int(bounds[-1] - bounds[0])


def id_table(ids: Sequence[str]) -> np.ndarray:
    """uint64[2, n]: the hashes of ids, ascending, and the documents they belong to."""
    hashes = hash_ids(ids)
    order = np.argsort(hashes, kind="stable").astype(np.uint64)
    return np.stack([hashes[order], order])
