"""What a new part holds of each document, on disk while it grows: numbers, and ids that must be distinct."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from gemkr.fm_index.ids import hash_ids

HELD = 1 << 15
"""Numbers that wait in memory; 8 bytes each."""
IDS_READ = 4096


class SpilledArray:
    """Integers of 64 bits in order: the first `HELD` in memory, more of them in a nameless temporary file of `folder`."""

    def __init__(self, folder: Path, dtype: type[np.int64 | np.uint64]) -> None:
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._held = array({"i": "q", "u": "Q"}[self._dtype.kind])
        self._stream: IO[bytes] | None = None
        self._written = 0

    def __len__(self) -> int:
        return self._written + len(self._held)

    def append(self, value: int) -> None:
        self._held.append(value)
        if len(self._held) >= HELD:
            self._spill()

    def extend(self, values: np.ndarray) -> None:
        self._held.frombytes(np.asarray(values, self._dtype).tobytes())
        if len(self._held) >= HELD:
            self._spill()

    def read(self) -> np.ndarray:
        """All of them, [n], in memory."""
        values = np.empty(len(self), self._dtype)
        values[self._written :] = self._held
        if self._stream is not None:
            self._stream.seek(0)
            self._stream.readinto(values[: self._written])
        return values

    def save(self, path: Path) -> None:
        """Write the array [n] as `numpy.save` does, byte for byte, without having it in memory. Nothing can be added then."""
        with open(path, "wb") as target:
            npy_header(target, (len(self),), self._dtype)
            if self._stream is not None:
                self._stream.seek(0)
                while data := self._stream.read(8 * HELD):
                    target.write(data)
            target.write(self._held)

    def _spill(self) -> None:
        if self._stream is None:
            self._stream = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - lives as long as this
        self._stream.write(self._held)
        self._written += len(self._held)
        del self._held[:]


def npy_header(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> None:
    """What a .npy file of an array in C order begins with."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


class DistinctIds:
    """Tells ids apart at 8 bytes each, once all have come: their hashes, and the ids themselves in a temporary file of `folder`."""

    def __init__(self, folder: Path) -> None:
        self._hashes = SpilledArray(folder, np.uint64)
        self._lines = tempfile.SpooledTemporaryFile(8 * HELD, dir=folder)  # noqa: SIM115 - lives as long as this

    def add(self, ids: Sequence[str]) -> None:
        """Ids without white space; UTF-8 can hold them."""
        self._hashes.extend(hash_ids(ids))
        self._lines.write("".join(f"{doc_id}\n" for doc_id in ids).encode())

    def given_twice(self) -> str | None:
        """An id that was added twice; None where all are distinct. Reads the ids again only where hashes are equal."""
        hashes = self._hashes.read()
        hashes.sort()
        equal = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        for start in range(0, len(equal), IDS_READ):
            seen: set[str] = set()
            for doc_id in self._with(equal[start : start + IDS_READ]):
                if doc_id in seen:
                    return doc_id
                seen.add(doc_id)
        return None

    def _with(self, hashes: np.ndarray) -> Iterator[str]:
        """The ids with these hashes, ascending, in order."""
        self._lines.seek(0)
        while lines := list(islice(self._lines, IDS_READ)):
            ids = [line[:-1].decode() for line in lines]
            for place in np.flatnonzero(np.isin(hash_ids(ids), hashes)).tolist():
                yield ids[place]
