"""Small protocols between the floors: what decoding sees of an index and of a model, and what a retriever is.

Tensors are named in comments only: this file imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gemkr.fm_index import Span
from gemkr.types import Answer, Document, Hit, Query, Ranking


class TokenIndex(Protocol):
    """What decoding and ranking see of an FM-index (`FMIndex`, `SegmentedIndex`, a twin, a fake)."""

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

    def only_document(self, span: Span) -> int | None: ...

    def extract(self, doc: int, start: int = 0, stop: int | None = None) -> np.ndarray: ...


@runtime_checkable
class SegmentedTokens(TokenIndex, Protocol):
    """A `TokenIndex` over segments, each an index of rows whose row d is the beginning of its document d; `deleted[s]` int64,
    ascending: the documents of segment s that do not count."""

    @property
    def positives(self) -> Sequence[TokenIndex]: ...

    @property
    def deleted(self) -> Sequence[np.ndarray]: ...

    def ranges(self, lo: np.ndarray, hi: np.ndarray) -> np.ndarray:
        """int64[n, segments, 2]: the rows [lo, hi) of each segment behind spans, deleted documents included."""
        ...


class DecodingState(Protocol):
    """The model's memory (KV cache) of a batch of beams; row i belongs to batch row i."""

    def select(self, rows: Any) -> DecodingState:
        """A state whose row i continues old row `rows[i]` (int64[B'], on the host; repeats and drops allowed)."""
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


class BeamSlots(Protocol):
    """What a model remembers of Q prompts with B beams each, in tensors that stay where they are (`gemkr.models.gemkr.slots`)."""

    def fits(self, state: Any) -> bool: ...

    def begin(self, state: Any) -> None: ...

    def step(self, tokens: Any, parents: Any) -> Any: ...


@runtime_checkable
class SlottedModel(LanguageModel, Protocol):
    """A `LanguageModel` whose steps can all have one shape: room for `queries` prompts like those of a prefilled `state`, with
    `beams` beams that take up to `steps` tokens. `step` feeds int64[Q, B] behind the beams `parents` int64[Q, B]: logits
    float32[Q * B, V]."""

    def slots(self, state: Any, queries: int, beams: int, steps: int) -> BeamSlots: ...


Allowed = Collection[str] | None
"""The `doc_id`s that may be retrieved; None means every document."""


class Retriever(Protocol):
    """Anything that ranks documents for queries; results come one by one, in the order of the queries.

    With `allowed`, only these documents are ranked, exactly as if the ranking of all documents were filtered before its
    first k are taken. Scores that depend on the other documents (coverage, ranks under fusion, what a reranker sees) are those of
    the allowed documents. A retriever that a configuration can name also has a frozen dataclass `Config`, a class method
    `from_config(config, sources)` and `input_files(config)` (gemkr/retrievers/compose.py).
    """

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]: ...


@dataclass(frozen=True, slots=True)
class GrowingClue:
    """A clue as it stands after a step of a search; `log_prob` is that of its tokens so far, `finished` whether it is done."""

    tokens: tuple[int, ...]
    text: str
    log_prob: float
    finished: bool


class Watch(Protocol):
    """Looks on while a retriever writes clues.

    Called for each query of a batch after each step that leaves it something to write, in the thread that retrieves; `growing()` makes
    the clues, best first. False stops the query's search, which then finds nothing. A retriever that can be looked at has a
    method `watched(watch)`, which gives the same retriever, looked at (gemkr/decoding/watch.py).
    """

    def __call__(self, query: Query, growing: Callable[[], list[GrowingClue]]) -> bool: ...


class DocumentScorer(Protocol):
    """Scores given documents for a query: higher is better; one float32 per document number in `docs` (int64[n])."""

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray: ...


class Reranker(Protocol):
    """Reorders the hits of a ranking; clues are kept. It may drop hits, never add any."""

    def rerank(self, query: Query, ranking: Ranking) -> Ranking: ...


class Reader(Protocol):
    """Answers queries from their best passages: hits, best first, that carry their documents; maybe none.

    A reader that a configuration can name also has `Config`, `from_config` and `input_files`, as a retriever has. Where it has a
    static `fingerprint(config)`, that tells it from other readers, else its settings do.
    """

    def answer(self, readings: Iterable[tuple[Query, Sequence[Hit]]]) -> Iterator[Answer]: ...


class Encoder(Protocol):
    """One vector for each query and document: float32[n, width], of length 1 where scores are cosines."""

    @property
    def width(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a document's vector."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray: ...

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """The vectors of n texts, one for each token: text i owns rows [offsets[i], offsets[i + 1]) of `values`.

    `values` float[sum, width], float16 where they are stored; `offsets` int64[n + 1].
    """

    values: np.ndarray
    offsets: np.ndarray


class TokenEncoder(Protocol):
    """One vector for each token of each query and document (late interaction).

    A document may have none left (all of it masked): it is never found. A query has one at least.
    """

    @property
    def width(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides a document's vectors."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> TokenVectors: ...

    def encode_documents(self, documents: Sequence[Document]) -> TokenVectors: ...


class VectorIndex(Protocol):
    """Finds the document vectors with the largest inner products.

    `search` takes vectors float32[q, width] and returns scores float32[q, k], best first, and document numbers int64[q, k];
    where fewer than k documents are allowed, the rest of a row has score -inf and document -1. `allowed` bool[n] marks the
    documents that count; None means all.
    """

    def __len__(self) -> int: ...

    def search(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...


class TokenVectorIndex(Protocol):
    """Finds the documents with the largest MaxSim: for each vector of a query the best inner product with a document's vectors,
    summed over the query's vectors. `search` is that of `VectorIndex`, for q queries at once."""

    def __len__(self) -> int: ...

    def search(
        self, queries: TokenVectors, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]: ...
