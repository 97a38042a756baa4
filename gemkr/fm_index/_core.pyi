"""Typed contract of the extension. `lo`, `hi`, `tokens`, `rows`: int64 arrays; anything else is converted."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Longs = NDArray[np.int64]

def xxh64(data: bytes) -> int:
    """The checksum of the file format: XXH64 with seed 0."""

def estimate_build(
    rows: int, documents: int, wide_symbols: bool, threads: int, memory_limit: int
) -> dict[str, int]:
    """Memory, blocks and temporary files of a build; memory_limit 0 means none."""

@final
class Span:
    """The rows [lo, hi) of a pattern of `length` tokens; an immutable value, falsy when empty.

    Spans are equal when their rows are. An empty result is always Span(0, 0).
    """

    def __new__(cls, lo: int, hi: int, length: int = 0) -> Span: ...
    @property
    def lo(self) -> int: ...
    @property
    def hi(self) -> int: ...
    @property
    def length(self) -> int:
        """Tokens of the pattern; 0 when not known, then `locate` reports where occurrences end."""

    @property
    def count(self) -> int:
        """hi - lo: the number of occurrences."""

    def __bool__(self) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...

class Builder:
    """Collects documents and ids for one build. Raises IndexBuildError."""

    def __init__(self, vocab_limit: int, held_bytes: int = 0, work_folder: str | bytes = "") -> None:
        """held_bytes: of tokens that may lie in memory, the rest in a nameless file of work_folder; 0: all."""
    def add(self, tokens: Sequence[int] | np.ndarray) -> None: ...
    def add_flat(self, tokens: np.ndarray, offsets: ArrayLike) -> None: ...
    def add_id(self, doc_id: str) -> None: ...
    def expect_ids(self) -> None: ...
    @property
    def documents(self) -> int: ...
    @property
    def rows(self) -> int: ...

class Index:
    """Base of FMIndex. L is the number of levels of the wavelet matrix (5-6 on average), k a number of results.

    Every query raises IndexQueryError for rows that this index does not have, and IndexCorruptError where
    it runs into damage of the file.
    """

    def __init__(
        self,
        path_or_builder: str | bytes | Builder,
        mmap_or_sample_rate: bool | int,
        document_array: bool = ...,
        threads: int = ...,
        context_bits: float = ...,
        tokenizer: str = ...,
        wide_rows: bool = ...,
        progress: Callable[[str, float], None] | None = ...,
        memory_limit: int = ...,
        block_rows: int = ...,
        work_folder: str | bytes = ...,
    ) -> None: ...
    def __len__(self) -> int:
        """Number of documents."""

    @property
    def n_tokens(self) -> int: ...
    @property
    def n_rows(self) -> int:
        """Tokens plus documents: the rows of the root."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def has_document_array(self) -> bool: ...
    @property
    def root(self) -> Span:
        """Span of the empty pattern, which stands once between any two tokens and at both ends of a document."""

    threads: int
    """Threads of the batch queries (setting 0 means all processors); queries that run keep what they began with."""

    def search(self, tokens: Sequence[int], /) -> Span:
        """Rows of a token sequence. Cost: 2 L cache lines per token."""

    def extend(self, span: Span, token: int, /) -> Span:
        """Append one token on the right; an unknown token gives an empty span. Cost: 2 L cache lines."""

    def next_tokens(self, span: Span, /) -> tuple[Longs, Longs]:
        """Tokens that follow the span somewhere, ascending, and how often; never a separator.

        Cost: a few ns per token for precomputed contexts, else about 2 L lines per token.
        """

    def count_ends(self, span: Span, /) -> int:
        """Occurrences of the span that stand at the end of a document. Cost: 2 L cache lines."""

    def documents(self, span: Span, limit: int | None = None) -> tuple[Longs, Longs]:
        """Distinct document numbers and their occurrences, most first, ties by number; the first `limit`.

        Cost: span.count walks of at most sample_rate steps, whatever the limit; one line each with a document array.
        """

    def documents_many(
        self, lo: ArrayLike, hi: ArrayLike, limit: int | None = None
    ) -> tuple[Longs, Longs, Longs]:
        """`documents` of each span: (indptr, docs, counts)."""

    def locate(self, span: Span, limit: int | None = None) -> Longs:
        """(document, offset of the pattern's first token) of each occurrence, int64[count, 2], sorted.

        `limit` keeps the first ones. Cost: as `documents`.
        """

    def locate_rows(self, rows: ArrayLike) -> tuple[Longs, Longs]:
        """(docs, ends) per row: the document, and how many of its tokens stand before the pattern's end."""

    def docs_of_rows(self, rows: ArrayLike) -> Longs:
        """Document number of each row."""

    def extract(self, doc: int, start: int = 0, stop: int | None = None) -> Longs:
        """Token ids [start, stop) of a document. Cost: stop steps of L lines each."""

    def extract_many(self, docs: ArrayLike) -> tuple[Longs, Longs]:
        """All tokens of documents, in lock step: (tokens, offsets int64[n + 1])."""

    def doc_length(self, doc: int) -> int: ...
    def extend_many(self, lo: ArrayLike, hi: ArrayLike, tokens: ArrayLike) -> tuple[Longs, Longs]:
        """`extend` for n states in lock step; empty results are (0, 0)."""

    def fill_mask(self, lo: ArrayLike, hi: ArrayLike, out: NDArray[np.uint32]) -> None:
        """Overwrite out, uint32[n, ceil(vocab / 32)]: bit t % 32 of word t // 32 of row i = token t may follow span i."""

    def next_tokens_many(self, lo: ArrayLike, hi: ArrayLike) -> tuple[Longs, Longs, Longs]:
        """`next_tokens` of each span as CSR: (indptr int64[n + 1], tokens, counts)."""

    def _verify(self) -> None: ...
    def _write(self, descriptor: int) -> None: ...
    def _info(self) -> dict[str, Any]: ...
    def _doc_id(self, doc: int) -> bytes: ...
    def _use_kernels(self, name: str) -> None: ...

class Segments:
    """Base of SegmentedIndex; spans are its codes (csrc/segments.hpp)."""

    def __init__(
        self,
        positives: list[Index],
        deleted: list[Longs],
        negatives: list[Index],
        numbers: list[Longs],
        vocab_size: int,
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def n_tokens(self) -> int: ...
    threads: int
    def forget(self) -> None:
        """Empty the cache of spans; answers stay the same."""

    def pattern(self, lo: int) -> Longs:
        """The tokens of the span that begins at `lo`."""

    def place(self, doc: int) -> tuple[int, int]:
        """(positive segment, its document) of a live document."""

    def extend_many(self, lo: ArrayLike, hi: ArrayLike, tokens: ArrayLike) -> tuple[Longs, Longs]: ...
    def next_tokens_many(self, lo: ArrayLike, hi: ArrayLike) -> tuple[Longs, Longs, Longs]: ...
    def fill_mask(self, lo: ArrayLike, hi: ArrayLike, out: NDArray[np.uint32]) -> None: ...
    def count_ends(self, lo: int, hi: int) -> int: ...
    def documents_many(
        self, lo: ArrayLike, hi: ArrayLike, limit: int | None = None
    ) -> tuple[Longs, Longs, Longs]: ...
    def only_document(self, lo: int, hi: int) -> int | None: ...
    def occurrences(self, lo: int, hi: int) -> tuple[Longs, Longs]:
        """(docs, ends) of each live occurrence, as `Index.locate_rows`, sorted."""

    def ranges(self, lo: ArrayLike, hi: ArrayLike) -> Longs:
        """int64[n, segments, 2]: the rows of each span in each segment, negative segments last."""
