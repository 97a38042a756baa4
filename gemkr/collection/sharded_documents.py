"""The documents of several collections as one sequence, numbered shard by shard, as `ShardedIndex` numbers them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar, overload

import numpy as np

from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.segment import OpenSegment
from gemkr.collection.shard_folder import shard_of
from gemkr.data.corpus import BadRows
from gemkr.data.documents import require_same_ids
from gemkr.errors import DataError
from gemkr.types import Document

T = TypeVar("T")


class Joined(Sequence[T], Generic[T]):
    """Sequences one after the other, none copied."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *map(len, parts)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._first[-1])

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError(f"document {place} is outside of [0, {len(self)})")
        part = int(np.searchsorted(self._first, place, side="right")) - 1
        return self._parts[part][int(place - self._first[part])]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._parts)


class ShardedDocuments(Joined[Document]):
    """The live documents of all shards. A document is looked for by its id in its own shard alone."""

    def __init__(self, folder: Path, shards: Sequence[CollectionDocuments]) -> None:
        super().__init__(shards)
        self._folder, self._shards = folder, shards
        self.doc_ids: Sequence[str] = Joined([shard.doc_ids for shard in shards])
        self.fingerprint = hashlib.sha256("".join(s.fingerprint for s in shards).encode()).hexdigest()

    @property
    def live_parts(self) -> list[tuple[OpenSegment, np.ndarray]]:
        """As `CollectionDocuments.live_parts`, shard by shard."""
        return [part for shard in self._shards for part in shard.live_parts]

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and doc_id in self._shards[self._place(doc_id)]

    def number(self, doc_id: str) -> int:
        """The number of a live document; DataError for another id."""
        shard = self._place(doc_id)
        if doc_id not in self._shards[shard]:
            raise DataError(
                f"the document id {doc_id!r} is not among the {len(self)} documents of the shards {self._folder}"
            )
        return int(self._first[shard]) + self._shards[shard].number(doc_id)

    def by_id(self, doc_id: str) -> Document:
        """The live document with an id; DataError when there is none."""
        return self[self.number(doc_id)]

    def contents(self, doc: int) -> str:
        """What is indexed and shown of document number `doc`: its title and its text."""
        return self[doc].contents

    def require_same_documents(self, doc_ids: Sequence[str], passed_over: BadRows | None = None) -> None:
        """Raise DataError unless an index with these ids (in its order) holds exactly these documents."""
        require_same_ids(doc_ids, self.doc_ids, passed_over)

    def _place(self, doc_id: str) -> int:
        return shard_of([doc_id], len(self._shards))[0]
