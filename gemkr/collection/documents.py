"""The live documents of a collection by number and by id: what `DocumentStore` is of a corpus file, without reading it.

Knows segments and what is deleted of them, not tokens or scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from gemkr.collection.segment import OpenSegment
from gemkr.data.corpus import BadRows
from gemkr.data.documents import require_same_ids
from gemkr.errors import DataError
from gemkr.fm_index.ids import hash_ids
from gemkr.fm_index.segmented import live_place
from gemkr.types import Document


class CollectionDocuments(Sequence[Document]):
    """The live documents of one generation, numbered as in its index. Nothing is read until it is asked for."""

    def __init__(
        self,
        folder: Path,
        segments: Sequence[OpenSegment],
        deleted: Sequence[np.ndarray],
        doc_ids: Sequence[str],
        fingerprint: str,
    ) -> None:
        """`deleted[s]` int64[n], ascending, of segment s; `doc_ids` are those of the live documents."""
        self._folder, self._segments, self._deleted = folder, segments, deleted
        counts = [len(s.texts) - len(gone) for s, gone in zip(segments, deleted, strict=True)]
        self._ends = np.cumsum([0, *counts], dtype=np.int64)
        self.doc_ids = doc_ids
        self.fingerprint = fingerprint

    @property
    def live_parts(self) -> list[tuple[OpenSegment, np.ndarray]]:
        """The segments, and int64[n], ascending: the deleted documents of each."""
        return list(zip(self._segments, self._deleted, strict=True))

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, doc: int) -> Document: ...
    @overload
    def __getitem__(self, doc: slice) -> list[Document]: ...
    def __getitem__(self, doc: int | slice) -> Document | list[Document]:
        """The document with a number (IndexError outside [0, len)), or the documents of a slice."""
        if isinstance(doc, slice):
            return [self[i] for i in range(*doc.indices(len(self)))]
        if not 0 <= doc < len(self):
            raise IndexError(f"document {doc} is outside of [0, {len(self)})")
        segment = int(np.searchsorted(self._ends, doc, side="right")) - 1
        inside = live_place(self._deleted[segment], doc - int(self._ends[segment]))
        return self._segments[segment].texts.document(inside)

    def __iter__(self) -> Iterator[Document]:
        for segment, deleted in zip(self._segments, self._deleted, strict=True):
            gone = set(deleted.tolist())
            for doc in range(len(segment.texts)):
                if doc not in gone:
                    yield segment.texts.document(doc)

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and len(self.find([doc_id])[0]) > 0

    def find(self, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which ids belong to live documents: (places int64[m] in `ids`, their segments, their documents there), by segment."""
        try:
            hashes = hash_ids(ids)
        except UnicodeEncodeError:  # such an id is nobody's, but others in the list may be somebody's
            hashes = hash_ids([doc_id.encode("utf-8", "replace").decode() for doc_id in ids])
        found = []
        for number, (segment, deleted) in enumerate(zip(self._segments, self._deleted, strict=True)):
            places, docs = segment.texts.find(ids, hashes)
            live = ~np.isin(docs, deleted)
            found.append((places[live], np.full(int(live.sum()), number), docs[live]))
        empty = np.zeros(0, np.int64)
        return tuple(np.concatenate([empty, *part]) for part in zip(*found)) if found else (empty,) * 3

    def number(self, doc_id: str) -> int:
        """The number of a live document; DataError for another id."""
        _, segments, docs = self.find([doc_id])
        if not len(docs):
            raise DataError(
                f"the document id {doc_id!r} is not among the {len(self)} documents of the collection {self._folder}"
            )
        segment, doc = int(segments[0]), int(docs[0])
        return int(self._ends[segment]) + doc - int(np.searchsorted(self._deleted[segment], doc))

    def by_id(self, doc_id: str) -> Document:
        """The live document with an id; DataError when there is none."""
        return self[self.number(doc_id)]

    def contents(self, doc: int) -> str:
        """What is indexed and shown of document number `doc`: its title and its text."""
        return self[doc].contents

    def require_same_documents(self, doc_ids: Sequence[str], passed_over: BadRows | None = None) -> None:
        """Raise DataError unless an index with these ids (in its order) holds exactly these documents."""
        require_same_ids(doc_ids, self.doc_ids, passed_over)
