"""What a shard keeps open of its documents' vectors or token vectors, and the index that it searches them by: the side of the shard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.collection.documents import CollectionDocuments
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.held_segments import Held
from gemkr.vector_index.learned_segments import held_index
from gemkr.vector_index.segment_store import opened
from gemkr.vector_index.segment_tokens import TokenKind
from gemkr.vector_index.segment_vectors import VectorKind


@dataclass(frozen=True)
class Opening:
    """What is sent to a shard once: the `folder` of vectors, seen from there too; what they are; the class of the index and its settings."""

    folder: Path
    kind: VectorKind | TokenKind
    index: type
    settings: Any
    remedy: str

    def __call__(self, documents: CollectionDocuments) -> ShardSearch:
        """Open what is kept of the segments of a shard; DataError, ending in `remedy`, where it is missing or damaged.

        A learned index is that of all shards: documents of others are deleted ones to it.
        """
        parts = documents.live_parts
        held = self.kind.held(parts, opened(self.folder, parts, self.kind, self.remedy))
        return ShardSearch(held, held_index(self.index, self.settings, self.folder, held))


class ShardSearch:
    """Every method is one message. Documents are numbered over the live ones of the shard."""

    def __init__(self, held: Held[Any], index: Any) -> None:
        self._empty, self._live, self._index = held.empty, held.live, index

    def describe(self) -> np.ndarray:
        """int64[m]: documents that are never found, as nothing is kept of them."""
        return self._empty

    def search(
        self, queries: np.ndarray | TokenVectors, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As the index answers; `allowed` as `np.packbits` packs it."""
        if allowed is not None:
            allowed = np.unpackbits(allowed, count=len(self._live)).view(bool)
        return self._index.search(queries, k, allowed)

    def products(self, numbers: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """float32[m]: inner products of the vectors of documents int64[m] with one float32[width]."""
        return self._live.products(numbers, vector)
