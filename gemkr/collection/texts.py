"""The texts of a segment on disk (see `data.texts`): `texts.bin`, `bounds.npy` and `ids.npy` uint64[2, n], hashes and documents.

The ids themselves lie in the segment's FM-index. Opening reads nothing but headers.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemkr.data.texts import TextTable, TextWriter, id_table

TEXTS, BOUNDS, IDS = "texts.bin", "bounds.npy", "ids.npy"


def open_texts(folder: Path, ids: Sequence[str]) -> TextTable:
    """The texts of a segment with these ids. Raises OSError and ValueError for files that cannot be read."""
    bounds = np.load(folder / BOUNDS, mmap_mode="r", allow_pickle=False)
    hashes, docs = np.load(folder / IDS, mmap_mode="r", allow_pickle=False)
    with open(folder / TEXTS, "rb") as stream:
        empty = stream.seek(0, 2) == 0
        data = b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    return TextTable(ids, bounds, hashes, docs, data)


class SegmentTexts(TextWriter):
    """Writes the texts of a new segment into its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(open(folder / TEXTS, "wb"))  # noqa: SIM115 - closed by finish or close

    def finish(self, ids: Sequence[str]) -> None:
        """Write the tables; `ids` are those of all documents, in order."""
        self.close()
        np.save(self._folder / BOUNDS, self.bounds)
        np.save(self._folder / IDS, id_table(ids))

    def close(self) -> None:
        self._stream.close()
