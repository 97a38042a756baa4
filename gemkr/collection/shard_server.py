"""ShardServer: what answers the calls of a `ShardedIndex` where a shard is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gemkr.collection.collection import Collection
from gemkr.fm_index import FMIndex, SegmentedIndex, Span


class ShardServer:
    """A generation of a collection. Every method is one message."""

    def __init__(self, folder: str | Path) -> None:
        collection = Collection.open(folder)
        index, self._fingerprint = collection.index, collection.fingerprint
        self._index = SegmentedIndex([index]) if isinstance(index, FMIndex) else index
        self.extend_many, self.next_tokens_many = self._index.extend_many, self._index.next_tokens_many
        self.documents, self.only_document = self._index.documents, self._index.only_document
        self.count_ends, self.locate = self._index.count_ends, self._index.locate
        self.extract, self.doc_length = self._index.extract, self._index.doc_length

    def describe(self) -> dict[str, Any]:
        """What the whole is put together from."""
        index = self._index
        names = ("vocab_size", "n_tokens", "n_rows", "tokenizer_fingerprint", "corpus_hash")
        facts = {name: getattr(index, name) for name in names}
        return {"documents": len(index), "fingerprint": self._fingerprint, **facts}

    def mask(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """uint32[n, words]: what `fill_mask` writes."""
        out = np.empty((len(lo), self._index.mask_words), np.uint32)
        self._index.fill_mask(lo, hi, out)
        return out

    def ids(self, start: int, stop: int) -> list[str]:
        """The ids of documents [start, stop)."""
        return self._index.doc_ids[start:stop]

    def pattern(self, lo: int) -> np.ndarray:
        """The tokens behind a span."""
        return self._index._core.pattern(lo)

    def first_occurrences(self, span: Span) -> list[tuple[list[int], int]]:
        """The occurrences of a span (a part of one, for example), in order: the tokens before each, read backwards, and the
        document."""
        docs, ends = self._index._core.occurrences(span.lo, span.hi)
        pairs = zip(docs.tolist(), ends.tolist(), strict=True)
        return sorted((self._index.extract(doc, 0, end)[::-1].tolist(), doc) for doc, end in pairs)
