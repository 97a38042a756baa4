"""The naive twin of FMIndex: the same answers from sorted Python lists. Oracle of the tests, and teaching text.

The text is every document reversed and closed by a separator. A *gap* (doc, e) is the place after the first
e tokens of a document; read backwards from there, the document is a suffix of that text. Sort all gaps by what is
read backwards: the gaps that stand behind one pattern are neighbours, their rows are the pattern's span, and the
token after each gap is what may follow. Separators are smaller than all tokens and ordered by document.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from gemkr.fm_index._core import Span
from gemkr.fm_index.errors import IndexBuildError, IndexQueryError


class ReferenceIndex:
    """Every query method of FMIndex, with the same rows. Everything costs time and memory quadratic in a document."""

    def __init__(self, docs: list[list[int]], doc_ids: list[str], vocab_size: int) -> None:
        self._docs = docs
        self.doc_ids = doc_ids
        self.vocab_size = vocab_size
        keyed = [
            ([(1, t) for t in reversed(doc[:e])] + [(0, d)], d, e)
            for d, doc in enumerate(docs)
            for e in range(len(doc) + 1)
        ]
        keyed.sort()
        self._keys = [key for key, _, _ in keyed]
        self._gaps = [(d, e) for _, d, e in keyed]

    @classmethod
    def build(
        cls,
        docs: Iterable[Sequence[int] | np.ndarray],
        doc_ids: Iterable[str] | None = None,
        *,
        vocab_size: int | None = None,
    ) -> Self:
        """As `FMIndex.build`, without its build parameters."""
        lists = [[int(t) for t in doc] for doc in docs]
        ids = [str(d) for d in range(len(lists))] if doc_ids is None else list(doc_ids)
        if len(set(ids)) != len(ids) or len(ids) != len(lists):
            raise IndexBuildError(f"{len(lists)} documents need as many distinct ids, got {len(ids)}")
        largest = max((t for doc in lists for t in doc), default=-1)
        size = largest + 1 if vocab_size is None else vocab_size
        if largest >= size or min((t for doc in lists for t in doc), default=0) < 0:
            raise IndexBuildError(f"token ids must be in [0, {size})")
        return cls(lists, ids, size)

    def __len__(self) -> int:
        return len(self._docs)

    @property
    def n_tokens(self) -> int:
        return sum(len(doc) for doc in self._docs)

    @property
    def n_rows(self) -> int:
        return len(self._gaps)

    @property
    def mask_words(self) -> int:
        return -(-self.vocab_size // 32)

    @property
    def root(self) -> Span:
        return Span(0, self.n_rows, 0)

    def search(self, tokens: Sequence[int]) -> Span:
        span = self.root
        for token in tokens:
            span = self.extend(span, token)
        return span

    def extend(self, span: Span, token: int) -> Span:
        rows = [r for r in range(span.lo, span.hi) if self._next(r) == token]
        if not rows:
            return Span(0, 0, span.length + 1)
        # The new gaps are one token further, and neighbours again.
        d, e = self._gaps[rows[0]]
        lo = bisect_left(self._keys, [(1, t) for t in reversed(self._docs[d][: e + 1])] + [(0, d)])
        return Span(lo, lo + len(rows), span.length + 1)

    def next_tokens(self, span: Span) -> tuple[np.ndarray, np.ndarray]:
        self._check(span.lo, span.hi)
        found = Counter(self._next(r) for r in range(span.lo, span.hi))
        found.pop(None, None)
        tokens = sorted(found)
        return np.array(tokens, np.int64), np.array([found[t] for t in tokens], np.int64)

    def count_ends(self, span: Span) -> int:
        return sum(self._next(r) is None for r in range(span.lo, span.hi))

    def documents(self, span: Span, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        found = Counter(self._gaps[r][0] for r in range(span.lo, span.hi))
        best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
        return np.array([d for d, _ in best], np.int64), np.array([c for _, c in best], np.int64)

    def only_document(self, span: Span) -> int | None:
        docs, _ = self.documents(span)
        return int(docs[0]) if len(docs) == 1 else None

    def documents_many(
        self, lo: np.ndarray, hi: np.ndarray, limit: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _stack([self.documents(Span(a, b), limit) for a, b in zip(lo.tolist(), hi.tolist())])

    def locate(self, span: Span, limit: int | None = None) -> np.ndarray:
        found = sorted((d, e - span.length) for d, e in self._gaps[span.lo : span.hi])[:limit]
        return np.array(found, np.int64).reshape(-1, 2)

    def locate_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.array([self._gaps[r] for r in rows.tolist()], np.int64).reshape(-1, 2)
        return found[:, 0].copy(), found[:, 1].copy()

    def docs_of_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.locate_rows(rows)[0]

    def extract(self, doc: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        return np.array(self._docs[doc][start:stop], np.int64)

    def extract_many(self, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [self.extract(doc) for doc in docs.tolist()]
        offsets = np.cumsum([0, *map(len, found)], dtype=np.int64)
        return np.concatenate([np.zeros(0, np.int64), *found]), offsets

    def doc_length(self, doc: int) -> int:
        return len(self._docs[doc])

    def extend_many(
        self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        spans = [
            self.extend(Span(a, b), t)
            for a, b, t in zip(lo.tolist(), hi.tolist(), tokens.tolist(), strict=True)
        ]
        return np.array([s.lo for s in spans], np.int64), np.array([s.hi for s in spans], np.int64)

    def next_tokens_many(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _stack([self.next_tokens(Span(a, b)) for a, b in zip(lo.tolist(), hi.tolist())])

    def fill_mask(self, lo: np.ndarray, hi: np.ndarray, out: np.ndarray) -> None:
        out[:] = 0
        for row, (a, b) in enumerate(zip(lo.tolist(), hi.tolist())):
            for token in self.next_tokens(Span(a, b))[0].tolist():
                out[row, token // 32] |= np.uint32(1 << token % 32)

    def _next(self, row: int) -> int | None:
        doc, gap = self._gaps[row]
        return self._docs[doc][gap] if gap < len(self._docs[doc]) else None

    def _check(self, lo: int, hi: int) -> None:
        if not 0 <= lo <= hi <= len(self._gaps):
            raise IndexQueryError(f"span [{lo}, {hi}) does not fit the {len(self._gaps)} rows of this index")


def _stack(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR of pairs of arrays: (indptr, first, second)."""
    indptr = np.cumsum([0] + [len(a) for a, _ in pairs], dtype=np.int64)
    empty = np.zeros(0, np.int64)
    return (
        indptr,
        np.concatenate([empty, *(a for a, _ in pairs)]),
        np.concatenate([empty, *(b for _, b in pairs)]),
    )
