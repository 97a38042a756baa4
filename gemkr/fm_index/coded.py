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
