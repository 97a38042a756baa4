"""Documents in one file that is mapped into memory, so that opening reads nothing but its tables.

The texts (`data.texts`), then tables, then JSON: `stamp`, what the file was made of, and where the tables begin. The last 20 bytes are
where the JSON begins, the CRC-32 of tables and JSON, and a mark; each document has a CRC-32 of its own.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np

from gemkr.data.texts import TextTable, TextWriter, id_table
from gemkr.errors import DataError
from gemkr.fm_index.ids import NumberedIds
from gemkr.types import Document

END = struct.Struct("<QI8s")
MARK = b"gemkrdc1"
IDS_READ = 4096


class MappedIds(NumberedIds):
    """The ids of a documents file; `bounds` int64[n + 1] say where each begins in the UTF-8 `data`, from `start` on."""

    __slots__ = ("_bounds", "_data", "_start")

    def __init__(self, data: mmap.mmap, start: int, bounds: np.ndarray) -> None:
        self._data, self._start, self._bounds = data, start, memoryview(bounds)

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def _id(self, number: int) -> str:
        start = self._start
        return self._data[start + self._bounds[number] : start + self._bounds[number + 1]].decode()

    def between(self, start: int, stop: int) -> list[str]:
        """The ids of documents [start, stop), at least one."""
        bounds = self._bounds[start : stop + 1].tolist()
        part = self._data[self._start + bounds[0] : self._start + bounds[-1]]
        return [part[a - bounds[0] : b - bounds[0]].decode() for a, b in pairwise(bounds)]

    def __iter__(self) -> Iterator[str]:
        for at in range(0, len(self), IDS_READ):
            yield from self.between(at, min(at + IDS_READ, len(self)))


@dataclass(frozen=True, eq=False)
class DocumentsFile:
    """An open file: `texts`, and `sums` uint32[n] of what was written of each document."""

    stamp: str
    ids: MappedIds
    texts: TextTable
    sums: np.ndarray

    def document(self, doc: int) -> Document | None:
        """A document; None where its texts are not those that were written."""
        bounds = memoryview(self.texts.bounds)[3 * doc : 3 * doc + 4].tolist()
        return self._document(self.ids[doc], *bounds, self.sums[doc])

    def read(self, start: int, stop: int) -> Iterator[Document | None]:
        """Documents [start, stop), at least one, as `document`."""
        bounds = memoryview(self.texts.bounds)[3 * start : 3 * stop + 1].tolist()
        sums = self.sums[start:stop].tolist()
        for at, (doc_id, crc) in enumerate(zip(self.ids.between(start, stop), sums, strict=True)):
            yield self._document(doc_id, *bounds[3 * at : 3 * at + 4], crc)

    def _document(
        self, doc_id: str, first: int, text: int, image: int, last: int, crc: int
    ) -> Document | None:
        found = self.texts.bytes[first:last]
        if zlib.crc32(found) != crc:
            return None
        title, body = found[: text - first].decode(), found[text - first : image - first].decode()
        return Document(doc_id, body, title, found[image - first :].decode() or None)


def write_documents(stream: IO[bytes], documents: Iterable[Document], stamp: str) -> None:
    """Write a documents file. Raises DataError for a duplicate id and for no documents, and OSError.

    Memory: 52 bytes a document, and its id.
    """
    texts, sums, ids = TextWriter(stream, array("q")), array("I"), []
    for document in documents:
        sums.append(zlib.crc32(texts.add(document)))
        ids.append(document.doc_id)
    if not ids:
        raise DataError("the corpus holds no document; it needs at least one")
    hashes, docs = id_table(ids)
    _require_distinct(ids, hashes, docs)
    names = [doc_id.encode() for doc_id in ids]
    ends = np.cumsum([0, *map(len, names)], dtype=np.int64)
    bounds = np.frombuffer(texts.bounds, np.int64)
    tables, crc = _aligned(int(bounds[-1])), 0
    stream.write(bytes(tables - int(bounds[-1])))
    head = json.dumps({"stamp": stamp, "documents": len(ids), "tables": tables}).encode()
    parts = (bounds, ends, hashes, docs, np.frombuffer(sums, np.uint32), b"".join(names), head)
    start = tables
    for part in parts:
        crc = zlib.crc32(part, crc)
        stream.write(part)
        start += memoryview(part).nbytes
    stream.write(END.pack(start - len(head), crc, MARK))
    stream.flush()


def open_documents(stream: IO[bytes]) -> DocumentsFile:
    """Map a documents file, which may be closed then. Raises ValueError for one that is damaged and OSError.

    Reads the tables, 60 bytes a document and its id; texts are compared with their sums when they are read.
    """
    data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    if len(data) < END.size:
        raise ValueError("it is too short")
    head, crc, mark = END.unpack(data[-END.size :])
    if mark != MARK or head > len(data):
        raise ValueError("it is no documents file, or one of another version")
    try:
        facts = json.loads(data[head : -END.size])
        at, count, stamp = int(facts["tables"]), int(facts["documents"]), str(facts["stamp"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"its end cannot be read ({error!r})") from error
    with memoryview(data) as whole, whole[at : -END.size] as tables:
        if zlib.crc32(tables) != crc:
            raise ValueError("its tables do not fit their checksum")

    def table(dtype: type[np.generic], size: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(data, dtype, size, at)
        at += found.nbytes
        return found

    bounds, ends = table(np.int64, 3 * count + 1), table(np.int64, count + 1)
    hashes, docs, sums = table(np.uint64, count), table(np.uint64, count), table(np.uint32, count)
    ids = MappedIds(data, at, ends)
    return DocumentsFile(stamp, ids, TextTable(ids, bounds, hashes, docs, data), sums)


def _aligned(size: int) -> int:
    return -(-int(size) // 8) * 8


def _require_distinct(ids: list[str], hashes: np.ndarray, docs: np.ndarray) -> None:
    seen: dict[str, int] = {}
    equal = np.flatnonzero(hashes[1:] == hashes[:-1])
    for number in sorted({int(docs[at]) for at in (*equal, *(equal + 1))}):
        first = seen.setdefault(ids[number], number)
        if first != number:
            raise DataError(
                f"the document id {ids[number]!r} belongs to documents {first} and {number}; make ids distinct"
            )
