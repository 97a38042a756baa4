"""ShardedIndex: several collections as one index, each searched in a process of its own, here or on other machines.

Every call of the index is one message to each shard and one merge of the answers: counts are added, documents follow each other
shard by shard. Knows shards as something that is called (`ShardCalls`), not what carries the messages.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, pairwise
from typing import Any

import numpy as np

from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.shard_calls import Shard, ShardCalls
from gemkr.collection.shard_spans import MOST_SHARDS, ShardSpans
from gemkr.errors import ShardError
from gemkr.fm_index import IndexQueryError, Span
from gemkr.fm_index.coded import CodedIndex
from gemkr.fm_index.ids import NumberedIds

IDS_READ = 4096


class ShardedIndex(CodedIndex):
    """The queries of `SegmentedIndex` over shards; documents are numbered shard by shard.

    A shard that is gone makes a query fail with its name, or with `partial`, answers are those of the shards that are left,
    `searched` says which share of the documents they hold, and `lost` names the others. Safe in threads, one call at a time.
    """

    def __init__(self, shards: Sequence[Shard], *, partial: bool = False) -> None:
        """Raises ShardError for no shard, too many, or shards of several tokenizers."""
        if not 0 < len(shards) <= MOST_SHARDS:
            raise ShardError(f"there are {len(shards)} shards; give 1 to {MOST_SHARDS}")
        self._calls = ShardCalls(shards, partial=partial)
        self._calls.documents = known = [shard.documents or 0 for shard in shards]
        found = self._calls.each("describe", lambda s: ())
        self._facts: list[dict[str, Any] | None] = [found.get(s) for s in range(len(shards))]
        facts = [each for each in self._facts if each is not None]
        if len({(each["vocab_size"], each["tokenizer_fingerprint"]) for each in facts}) > 1:
            raise ShardError("the shards were made with different tokenizers; make all with one")
        self.vocab_size: int = facts[0]["vocab_size"]
        self.tokenizer_fingerprint: str = facts[0]["tokenizer_fingerprint"]
        counts = [n if f is None else f["documents"] for f, n in zip(self._facts, known, strict=True)]
        self._calls.documents, self._first = counts, np.cumsum([0, *counts])
        self._attached = count()
        rows = [0 if each is None else each["n_rows"] for each in self._facts]
        self._spans = ShardSpans(self._calls, rows, self.search)
        self.doc_ids: Sequence[str] = ShardIds(self)

    def __len__(self) -> int:
        return int(self._first[-1])

    @property
    def n_tokens(self) -> int:
        return sum(self._facts[s]["n_tokens"] for s in self._calls.alive)

    @property
    def n_rows(self) -> int:
        return sum(self._facts[s]["n_rows"] for s in self._calls.alive)

    @property
    def corpus_hash(self) -> str:
        """Those of the shards, joined."""
        return "-".join("lost" if each is None else each["corpus_hash"] for each in self._facts)

    @property
    def fingerprints(self) -> list[str | None]:
        """Of the generation of each shard's collection; None of one that is lost."""
        return [None if each is None else each["fingerprint"] for each in self._facts]

    @property
    def searched(self) -> float:
        """The share of all documents that answers come from."""
        return self._calls.searched

    @property
    def lost(self) -> list[str]:
        """Names of shards that are gone."""
        return self._calls.lost

    @property
    def starts(self) -> np.ndarray:
        """int64[shards + 1]: where the documents of each shard begin."""
        return self._first

    def attach(self, make: Callable[[CollectionDocuments], Any]) -> tuple[int, dict[int, Any]]:
        """Have every shard keep what `make` (picklable) makes of its live documents where it is; its number, and what each one says of
        itself (`describe`)."""
        number = next(self._attached)
        return number, self._calls.each("attach", lambda s: (number, make))

    def ask_attached(self, number: int, method: str, args: Callable[[int], tuple | None]) -> dict[int, Any]:
        """What a method of what is attached answers with `args(s)` in each shard s that is alive; None for one that is not to be
        asked."""
        with self._calls.lock:
            given = {s: (number, method, *own) for s in self._calls.alive if (own := args(s)) is not None}
            return self._calls.each("ask_attached", given.__getitem__, list(given))

    def extend_many(
        self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        los, his = self._spans.resolve(lo, hi)
        return self._extended(los, his, np.asarray(tokens))

    def _extended(
        self, los: np.ndarray, his: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        found = self._calls.each("extend_many", lambda s: (los[s], his[s], tokens))
        los, his = np.zeros_like(los), np.zeros_like(his)
        for s, (new_lo, new_hi) in found.items():
            los[s], his[s] = new_lo, new_hi
        return self._spans.coded(los, his)

    def next_tokens_many(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        los, his = self._spans.resolve(lo, hi)
        found = self._calls.each("next_tokens_many", lambda s: (los[s], his[s])).values()
        rows = [np.repeat(np.arange(len(lo)), np.diff(indptr)) for indptr, _, _ in found]
        empty = np.zeros(0, np.int64)
        keys = np.concatenate(
            [empty, *(row * self.vocab_size + f[1] for row, f in zip(rows, found, strict=True))]
        )
        counts = np.concatenate([empty, *(f[2] for f in found)])
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        sums = np.add.reduceat(counts, starts) if len(starts) else empty
        row, token = np.divmod(keys[starts], max(self.vocab_size, 1))
        return np.searchsorted(row, np.arange(len(lo) + 1)).astype(np.int64), token, sums

    def fill_mask(self, lo: np.ndarray, hi: np.ndarray, out: np.ndarray) -> None:
        los, his = self._spans.resolve(lo, hi)
        out[:] = 0
        for places, words in self._calls.each("mask", lambda s: (los[s], his[s])).values():
            if places is None:
                out |= words
            else:
                rows, columns = np.divmod(places, out.shape[1])
                out[rows, columns] |= words

    def count_ends(self, span: Span) -> int:
        return sum(self._calls.each("count_ends", self._spans.argument(span)).values())

    def documents(self, span: Span, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `SegmentedIndex.documents`; for a part of a span of k occurrences, the shards send k occurrences each."""
        los, his = self._spans.resolve([span.lo], [span.hi], whole=False)
        wanted = span.hi - span.lo
        if wanted < int((his - los).sum()):
            return self._first_documents(los[:, 0], his[:, 0], wanted, limit)
        found = self._calls.each("documents", lambda s: (Span(int(los[s, 0]), int(his[s, 0])), limit))
        empty = np.zeros(0, np.int64)
        docs = np.concatenate([empty, *(part[0] + self._first[s] for s, part in found.items())])
        counts = np.concatenate([empty, *(part[1] for part in found.values())])
        order = np.lexsort((docs, -counts))[:limit]
        return docs[order], counts[order]

    def _first_documents(
        self, los: np.ndarray, his: np.ndarray, wanted: int, limit: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        most = np.minimum(his - los, wanted)
        found = self._calls.each("first_occurrences", lambda s: (Span(int(los[s]), int(los[s] + most[s])),))
        lists = [[(key, doc + int(self._first[s])) for key, doc in part] for s, part in found.items()]
        first = [doc for _, doc in islice(heapq.merge(*lists), wanted)]
        docs, counts = np.unique(np.array(first, np.int64), return_counts=True)
        order = np.lexsort((docs, -counts))[:limit]
        return docs[order], counts[order].astype(np.int64)

    def documents_many(
        self, lo: np.ndarray, hi: np.ndarray, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = [self.documents(Span(int(a), int(b)), limit) for a, b in zip(lo, hi, strict=True)]
        empty = np.zeros(0, np.int64)
        indptr = np.cumsum([0, *(len(docs) for docs, _ in found)], dtype=np.int64)
        return indptr, *(np.concatenate([empty, *part]) for part in zip(*found))

    def only_document(self, span: Span) -> int | None:
        los, his = self._spans.resolve([span.lo], [span.hi])
        holders = np.flatnonzero(his[:, 0] > los[:, 0])
        if len(holders) != 1:
            return None
        s = int(holders[0])
        doc = self._calls.each("only_document", lambda s: (Span(int(los[s, 0]), int(his[s, 0])),), [s]).get(s)
        return None if doc is None else doc + int(self._first[s])

    def locate(self, span: Span, limit: int | None = None) -> np.ndarray:
        """(document, offset) of each occurrence, int64[count, 2], sorted."""
        found = self._calls.each("locate", self._spans.argument(span))
        places = [part + np.array([self._first[s], 0]) for s, part in found.items()]
        return np.concatenate([np.zeros((0, 2), np.int64), *places])[:limit]

    def extract(self, doc: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        s, inside = self.place(doc)
        return self._calls.one(s, "extract", inside, start, stop)

    def _extract_from(self, part: int, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._calls.one(part, "extract_many", docs)

    def doc_length(self, doc: int) -> int:
        s, inside = self.place(doc)
        return self._calls.one(s, "doc_length", inside)

    def place(self, doc: int) -> tuple[int, int]:
        """(shard, document there) of a document."""
        if not 0 <= doc < len(self):
            raise IndexQueryError(f"document {doc} is not among the {len(self)} documents of this index")
        s = int(np.searchsorted(self._first, doc, side="right")) - 1
        return s, doc - int(self._first[s])


class ShardIds(NumberedIds):
    """The ids of all documents, read from the shards a few thousand at a time."""

    def __init__(self, index: ShardedIndex) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def _id(self, number: int) -> str:
        s, inside = self._index.place(number)
        return self._index._calls.one(s, "ids", inside, inside + 1)[0]

    def __iter__(self) -> Iterator[str]:
        first = self._index._first.tolist()
        for s, (start, stop) in enumerate(pairwise(first)):
            for at in range(0, stop - start, IDS_READ):
                yield from self._index._calls.one(s, "ids", at, min(at + IDS_READ, stop - start))
