"""The texts of a segment on disk, read in place: UTF-8 in one file, where each begins and a table of ids as numpy arrays.

`texts.bin` holds title, text and image id of each document, one behind the other; `bounds.npy` int64[3n + 1] where each begins,
and the end; `ids.npy` uint64[2, n] the hashes of the ids, ascending, and the documents they belong to. The ids themselves lie in
the segment's FM-index. Opening reads nothing but headers.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemkr.fm_index.ids import hash_ids
from gemkr.types import Document

TEXTS, BOUNDS, IDS = "texts.bin", "bounds.npy", "ids.npy"
COPIED = 1 << 24


class TextTable:
    """The texts of one segment; `ids` decodes the id of a document."""

    def __init__(self, folder: Path, ids: Sequence[str]) -> None:
        """Raises OSError and ValueError for files that cannot be read."""
        self.ids = ids
        self.bounds: np.ndarray = np.load(folder / BOUNDS, mmap_mode="r", allow_pickle=False)
        self._hashes, self._docs = np.load(folder / IDS, mmap_mode="r", allow_pickle=False)
        with open(folder / TEXTS, "rb") as stream:
            empty = stream.seek(0, 2) == 0
            self.bytes = b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self.ids)

    def document(self, doc: int) -> Document:
        a, b, c, d = self.bounds[3 * doc : 3 * doc + 4].tolist()
        image = self.bytes[c:d].decode() if c < d else None
        return Document(self.ids[doc], self.bytes[b:c].decode(), self.bytes[a:b].decode(), image)

    def find(self, ids: Sequence[str], hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(places int64[m] in `ids`, documents int64[m]) of the ids that this segment holds; `hashes` uint64[n] are theirs.

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
    """Writes the texts of a new segment into a folder. Memory: 32 bytes a document."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = open(folder / TEXTS, "wb")  # noqa: SIM115 - closed by finish or close
        self._bounds = array("q", [0])
        self._hashes: list[np.ndarray] = []

    def add(self, document: Document) -> None:
        for part in (document.title, document.text, document.image or ""):
            data = part.encode()
            self._stream.write(data)
            self._bounds.append(self._bounds[-1] + len(data))

    def copy(self, table: TextTable, start: int, stop: int) -> None:
        """Documents [start, stop) of another segment, as they stand."""
        bounds = np.asarray(table.bounds[3 * start : 3 * stop + 1])
        for at in range(int(bounds[0]), int(bounds[-1]), COPIED):
            self._stream.write(table.bytes[at : min(at + COPIED, int(bounds[-1]))])
        self._bounds.frombytes((bounds[1:] - bounds[0] + self._bounds[-1]).astype(np.int64).tobytes())

    def finish(self, ids: Sequence[str]) -> None:
        """Write the tables; `ids` are those of all documents, in order."""
        self.close()
        np.save(self._folder / BOUNDS, np.frombuffer(self._bounds, np.int64))
        hashes = hash_ids(ids)
        order = np.argsort(hashes, kind="stable").astype(np.uint64)
        np.save(self._folder / IDS, np.stack([hashes[order], order]))

    def close(self) -> None:
        self._stream.close()
