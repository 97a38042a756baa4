"""What indexes over several parts have in common, whose spans are codes of patterns and not ranges of rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemkr.fm_index._core import Span
from gemkr.fm_index.tokenizers import Fingerprinted, require_tokenizer


class CodedIndex(ABC):
    """The queries about one span, by those about many."""

    path: Path | None = None
    vocab_size: int
    tokenizer_fingerprint: str

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Live tokens plus live documents: the count of the root."""

    @abstractmethod
    def extend_many(
        self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    @abstractmethod
    def next_tokens_many(
        self, lo: np.ndarray, hi: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...

    @abstractmethod
    def place(self, doc: int) -> tuple[int, int]:
        """(part, document there) of a document; IndexQueryError for one that is not there."""

    @abstractmethod
    def _extract_from(self, part: int, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`FMIndex.extract_many` of one part."""

    @property
    def mask_words(self) -> int:
        return -(-self.vocab_size // 32)

    @property
    def root(self) -> Span:
        return Span(0, self.n_rows, 0)

    def check_tokenizer(self, tokenizer: Fingerprinted) -> None:
        """As `FMIndex.check_tokenizer`."""
        require_tokenizer(self, tokenizer)

    def search(self, tokens: Sequence[int]) -> Span:
        span = self.root
        for token in tokens:
            span = self.extend(span, token)
        return span

    def extend(self, span: Span, token: int) -> Span:
        value = token.__index__()  # one that no int64 holds is in no vocabulary
        known = value if 0 <= value < self.vocab_size else -1
        lo, hi = self.extend_many(np.array([span.lo]), np.array([span.hi]), np.array([known]))
        return Span(int(lo[0]), int(hi[0]), span.length + 1)

    def next_tokens(self, span: Span) -> tuple[np.ndarray, np.ndarray]:
        _, tokens, counts = self.next_tokens_many(np.array([span.lo]), np.array([span.hi]))
        return tokens, counts

    def extract_many(self, docs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `FMIndex.extract_many`: (tokens int64, offsets int64[n + 1]). One call of each part that holds some of them."""
        numbers = np.asarray(docs, np.int64).tolist()
        parts, inside = np.array([self.place(doc) for doc in numbers], np.int64).reshape(-1, 2).T
        lengths = np.zeros(len(numbers), np.int64)
        found = {}
        for part in np.unique(parts).tolist():
            rows = np.flatnonzero(parts == part)
            tokens, ends = self._extract_from(part, np.ascontiguousarray(inside[rows]))
            lengths[rows] = np.diff(ends)
            found[part] = rows, tokens, ends
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
        out = np.zeros(int(offsets[-1]), np.int64)
        for rows, tokens, ends in found.values():
            out[np.arange(len(tokens)) + np.repeat(offsets[rows] - ends[:-1], lengths[rows])] = tokens
        return out, offsets
