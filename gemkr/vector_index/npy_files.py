"""Arrays in files as `np.save` writes them, safe on the disk when written: at once, or rows at a time, going on where a stop left them."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import numpy as np


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a file that `np.load` reads. OSError where there is no room."""
    array = np.ascontiguousarray(array)
    with open(path, "wb") as stream:
        stream.write(_header(array.shape, array.dtype))
        stream.write(array.data)
        stream.flush()
        os.fsync(stream.fileno())


class GrowingArray:
    """A file of an array whose shape is known and whose rows come one block after the other; rows that are not kept are not there after
    a stop."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: type, rows: int) -> None:
        """Go on after `rows` rows. ValueError for a file that does not have them, or is of another array; OSError."""
        self._dtype = np.dtype(dtype)
        header = _header(shape, self._dtype)
        size = len(header) + rows * int(np.prod(shape[1:])) * self._dtype.itemsize
        if rows:
            with open(path, "rb") as stream:
                if stream.read(len(header)) != header or stream.seek(0, os.SEEK_END) < size:
                    raise ValueError(f"{path.name} does not hold its first {rows} rows")
        self._stream = open(path, "ab")  # noqa: SIM115 - open until close()
        self._stream.truncate(size if rows else 0)
        if not rows:
            self._stream.write(header)

    def add(self, rows: np.ndarray) -> None:
        """The next rows."""
        self._stream.write(np.ascontiguousarray(rows, self._dtype).data)

    def keep(self) -> None:
        """Make sure that all rows are on the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Rows that were not kept may be lost."""
        with suppress(OSError):
            self._stream.close()


def _header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    stream = io.BytesIO()
    fields = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(stream, fields)
    return stream.getvalue()
