"""The folder of a segment: what a `Kind` keeps of its documents (nothing, or zeros, for those that were deleted before).

Beside it lies `keys.npy`, hashes of the documents, by which a new segment takes over what is kept of those that it was merged from. No
document is encoded twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from gemkr.collection.segment import OpenSegment
from gemkr.errors import DataError
from gemkr.types import Document
from gemkr.vector_index.manifest import part_folder, read_manifest

KEYS = "keys.npy"
BLOCK = 1024
S = TypeVar("S")
"""What is kept of some documents, numbered from 0: `Vectors`, `TokenVectors`."""


class Writer(Protocol[S]):
    """Writes a folder block by block into `part`; the `done` documents of an interrupted writing are kept."""

    part: Path
    done: int

    def add(self, stored: S) -> None: ...

    def finish(self) -> None: ...


class Kind(Protocol[S]):
    """What is kept of documents, and how. A plan has the keys `corpus` and `shape` (documents, width)."""

    def plan(self, name: str, documents: int) -> dict[str, Any]: ...

    def open(self, place: Path, plan: dict[str, Any], remedy: str) -> S:
        """DataError, ending in `remedy`, for a folder that is missing, damaged, or of another plan."""
        ...

    def writer(self, place: Path, plan: dict[str, Any]) -> Writer[S]: ...

    def encoded(self, documents: list[Document]) -> S: ...

    def block(self, count: int, sources: Sequence[tuple[np.ndarray, S, np.ndarray]]) -> S:
        """What is kept of `count` documents: those at `places` int64[m] have the `rows` int64[m] of a source, the others nothing."""
        ...


@dataclass(frozen=True)
class MadeBy:
    """What stands for an encoder in a `Kind` where its vectors are read, and none are made."""

    fingerprint: str
    width: int


class Known(Generic[S]):
    """What is there, found by the documents' keys."""

    def __init__(self, place: Path, kind: Kind[S], wanted: dict[str, Any]) -> None:
        """DataError where it is of another plan than the one `wanted` for a segment, or damaged."""
        remedy = f"delete {place.parent}, or choose another folder for the vectors"
        own = {name: (read_manifest(place) or {}).get(name) for name in ("corpus", "shape")}
        plan = wanted | {"corpus": own["corpus"], "shape": [(own["shape"] or [0])[0], wanted["shape"][1]]}
        self.stored = kind.open(place, plan, remedy)
        try:
            self._keys = np.load(place / KEYS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"the vectors {place} cannot be read ({error}); {remedy}") from error

    def find(self, keys: np.ndarray) -> np.ndarray:
        """int64[n]: the row of each key uint64[2, n], or -1."""
        if not self._keys.shape[1]:
            return np.full(keys.shape[1], -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys[0], keys[0]), self._keys.shape[1] - 1)
        same = (self._keys[0][at] == keys[0]) & (self._keys[1][at] == keys[1])
        return np.where(same, self._keys[2][at].astype(np.int64), -1)


class Missing(Generic[S]):
    """A segment that is not kept yet: what others hold of its documents, and `unknown` ones to encode, without those that an interrupted
    writing has left."""

    def __init__(
        self,
        place: Path,
        plan: dict[str, Any],
        segment: OpenSegment,
        gone: np.ndarray,
        kind: Kind[S],
        known: Sequence[Known[S]],
    ) -> None:
        self._place, self._plan, self._segment, self._kind, self._known = place, plan, segment, kind, known
        self._live = np.setdiff1d(np.arange(len(segment.texts)), gone)
        self._keys = _document_keys(segment, self._live)
        self._home = np.full(len(segment.texts), -1)
        self._row = np.zeros(len(segment.texts), np.int64)
        for number, each in enumerate(known):
            rows = each.find(self._keys)
            docs = self._live[rows >= 0]
            self._home[docs], self._row[docs] = number, rows[rows >= 0]
        begun = read_manifest(part_folder(place))
        done = 0 if begun is None else begun.get("done", len(segment.texts))
        self.unknown = self._live[(self._home[self._live] < 0) & (self._live >= done)]

    def write(self, bar: Any) -> None:
        writer = self._kind.writer(self._place, self._plan)
        order = np.argsort(self._keys[0])
        rows = self._live[order].astype(np.uint64)
        with (writer.part / KEYS).open("wb") as file:
            np.save(file, np.stack([*self._keys[:, order], rows]))
            file.flush()
            os.fsync(file.fileno())
        for start in range(writer.done, len(self._home), BLOCK):
            stop = min(start + BLOCK, len(self._home))
            writer.add(self._block(start, stop))
            bar.update(int(((self.unknown >= start) & (self.unknown < stop)).sum()))
        writer.finish()

    def _block(self, start: int, stop: int) -> S:
        docs = self.unknown[(self.unknown >= start) & (self.unknown < stop)]
        homes = self._home[start:stop]
        taken = [(np.flatnonzero(homes == number), each.stored) for number, each in enumerate(self._known)]
        sources = [(places, old, self._row[start + places]) for places, old in taken if len(places)]
        if len(docs):
            new = self._kind.encoded([self._segment.texts.document(doc) for doc in docs.tolist()])
            sources.append((docs - start, new, np.arange(len(docs))))
        return self._kind.block(stop - start, sources)


def _document_keys(segment: OpenSegment, docs: np.ndarray) -> np.ndarray:
    """uint64[2, n]: hashes of what an encoder may read of each document."""
    texts, digests = segment.texts, bytearray()
    for doc in docs.tolist():
        bounds = texts.bounds[3 * doc : 3 * doc + 4].tolist()
        doc_id = texts.ids[doc].encode()
        head = json.dumps([len(doc_id), *(stop - bounds[0] for stop in bounds[1:])]).encode()
        content = texts.bytes[bounds[0] : bounds[3]]
        digests += hashlib.blake2b(head + doc_id + content, digest_size=16).digest()
    return np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2).T
