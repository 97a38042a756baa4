"""ShardServer: what answers the calls of a `ShardedIndex` where a shard is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.generation import open_at, open_newest
from gemkr.collection.manifest import Manifest, OwnManifest
from gemkr.fm_index import FMIndex, SegmentedIndex, Span

Place = str | Path | tuple[Path, Manifest]
"""Where a shard is: a collection's folder, or a folder and the manifest of a generation."""


def folder_and_manifest(place: Place) -> tuple[Path, Manifest | None]:
    return place if isinstance(place, tuple) else (Path(place), None)


class ShardServer:
    """A generation of a collection. Every method is one message."""

    def __init__(self, folder: str | Path, manifest: Manifest | None = None) -> None:
        """The generation that `manifest` describes, or the newest one. DataError where it cannot be opened."""
        folder = Path(folder)
        (shard,) = open_newest(OwnManifest(folder)) if manifest is None else [open_at(folder, manifest)]
        index, self._fingerprint = shard.index, shard.manifest.fingerprint
        self._documents = shard.documents
        self._attached: dict[int, Any] = {}
        self._index = SegmentedIndex([index]) if isinstance(index, FMIndex) else index
        self.extend_many, self.next_tokens_many = self._index.extend_many, self._index.next_tokens_many
        self.documents, self.only_document = self._index.documents, self._index.only_document
        self.count_ends, self.locate = self._index.count_ends, self._index.locate
        self.extract, self.extract_many = self._index.extract, self._index.extract_many
        self.doc_length = self._index.doc_length

    def describe(self) -> dict[str, Any]:
        """What the whole is put together from."""
        index = self._index
        names = ("vocab_size", "n_tokens", "n_rows", "tokenizer_fingerprint", "corpus_hash")
        facts = {name: getattr(index, name) for name in names}
        return {"documents": len(index), "fingerprint": self._fingerprint, **facts}

    def attach(self, number: int, make: Callable[[CollectionDocuments], Any]) -> Any:
        """Keep what `make` makes of the live documents, as `number`; what it says of itself (`describe`)."""
        made = self._attached[number] = make(self._documents)
        return made.describe()

    def ask_attached(self, number: int, method: str, *args: Any) -> Any:
        """Call a method of what is kept."""
        return getattr(self._attached[number], method)(*args)

    def mask(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
        """What `fill_mask` writes: (int32[m], uint32[m]), the places and values of words that are not 0, or where those are many
        (None, uint32[n, words])."""
        out = np.empty((len(lo), self._index.mask_words), np.uint32)
        self._index.fill_mask(lo, hi, out)
        words = out.reshape(-1)
        places = np.flatnonzero(words)
        if 2 * len(places) > len(words) or len(words) >= 1 << 31:
            return None, out
        return places.astype(np.int32), words[places]

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
