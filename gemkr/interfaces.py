"""Small protocols between the floors: what decoding sees of an index and of a model, and what a retriever is.

Tensors are named in comments only: this file imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from gemkr.fm_index import Span
from gemkr.types import Query, Ranking


class TokenIndex(Protocol):
    """What decoding and ranking see of an FM-index (`gemkr.fm_index.FMIndex`, its twin, a fake)."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def n_tokens(self) -> int: ...

    @property
    def doc_ids(self) -> Sequence[str]: ...

    @property
    def root(self) -> Span: ...

    def __len__(self) -> int: ...

    def extend(self, span: Span, token: int) -> Span: ...

    def extend_many(
        self, lo: np.ndarray, hi: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def next_tokens_many(
        self, lo: np.ndarray, hi: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...

    def fill_mask(self, lo: np.ndarray, hi: np.ndarray, out: np.ndarray) -> None: ...

    def count_ends(self, span: Span) -> int: ...

    def documents(self, span: Span, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]: ...

    def extract(self, doc: int, start: int = 0, stop: int | None = None) -> np.ndarray: ...


class DecodingState(Protocol):
    """The model's memory (KV cache) of a batch of beams; row i belongs to batch row i."""

    def select(self, rows: Any) -> DecodingState:
        """A state whose row i continues old row `rows[i]` (int64[B'], repeats and drops allowed)."""
        ...


class LanguageModel(Protocol):
    """A causal language model as beam search sees it; prompts are opaque to the search.

    `prefill` returns the logits after each prompt (float tensor [Q, V]) and the state of Q rows;
    `step` feeds one token per row (int64[B]) and returns logits [B, V] and the new state. V may be wider
    than the index's vocabulary (padded embeddings), never narrower.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> Any: ...

    def prefill(self, prompts: Sequence[Any]) -> tuple[Any, DecodingState]: ...

    def step(self, tokens: Any, state: DecodingState) -> tuple[Any, DecodingState]: ...


class Retriever(Protocol):
    """Anything that ranks documents for queries; results come one by one, in the order of the queries."""

    def retrieve(self, queries: Iterable[Query], k: int) -> Iterator[Ranking]: ...


class Reranker(Protocol):
    """A second scorer: higher is better; one float32 per document number in `docs` (int64[n])."""

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray: ...
