"""The texts of a segment on disk (see `data.texts`): `texts.bin`, `bounds.npy` and `ids.npy` uint64[2, n], hashes and documents.

The ids themselves lie in the segment's FM-index. Opening reads nothing but headers.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemkr.data.spilled import SpilledArray, npy_header
from gemkr.data.texts import TextTable, TextWriter
from gemkr.fm_index.ids import hash_ids

TEXTS, BOUNDS, IDS = "texts.bin", "bounds.npy", "ids.npy"
WRITTEN = 1 << 16


def open_texts(folder: Path, ids: Sequence[str]) -> TextTable:
    """The texts of a segment with these ids. Raises OSError and ValueError for files that cannot be read."""
    bounds = np.load(folder / BOUNDS, mmap_mode="r", allow_pickle=False)
    hashes, docs = np.load(folder / IDS, mmap_mode="r", allow_pickle=False)
    with open(folder / TEXTS, "rb") as stream:
        empty = stream.seek(0, 2) == 0
        data = b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return TextTable(ids, bounds, hashes, docs, data)


class SegmentTexts(TextWriter):
    """Writes the texts of a new segment into its folder. Memory: at the end 24 bytes a document, where the hashes are sorted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes = SpilledArray(folder, np.uint64)
        super().__init__(open(folder / TEXTS, "wb"), SpilledArray(folder, np.int64))  # noqa: SIM115 - closed by finish or close

    def add_ids(self, ids: Sequence[str]) -> None:
        """The ids of the next documents, whose texts may have come before."""
        self._hashes.extend(hash_ids(ids))

    def finish(self) -> None:
        """Write the tables."""
        self.close()
        self.bounds.save(self._folder / BOUNDS)
        hashes = self._hashes.read()
        order = np.argsort(hashes, kind="stable")
        with open(self._folder / IDS, "wb") as stream:
            npy_header(stream, (2, len(order)), hashes.dtype)
            for start in range(0, len(order), WRITTEN):
                stream.write(hashes[order[start : start + WRITTEN]])
            stream.write(order.view(np.uint64))

    def close(self) -> None:
        self._stream.close()
