"""Typed contract of the extension. Other dtypes and strides raise TypeError, parts that do not fit together ValueError; the GIL is released."""

import numpy as np
from numpy.typing import NDArray

def stored(
    values: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    docs: NDArray[np.int64],
    vectors: NDArray[np.float32],
    bounds: NDArray[np.int64],
) -> NDArray[np.float32]:
    """float32[q, m]: MaxSim of queries and documents `docs` int64[m]; -inf for a document without a token.

    `values` are the bits of float16[tokens, width], all finite; document j owns rows offsets[j] to offsets[j + 1], query i rows
    bounds[i] to bounds[i + 1] of `vectors` float32[n, width]. 2 * n * width operations a token.
    """

def coded(
    codes: NDArray[np.uint16],
    residuals: NDArray[np.uint8],
    centroids: NDArray[np.float32],
    table: NDArray[np.float32],
    scales: NDArray[np.float32],
    unit: bool,
    offsets: NDArray[np.int64],
    docs: NDArray[np.int64],
    vectors: NDArray[np.float32],
    bounds: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The same of tokens that are decoded: centroids[codes[t]] + scales * the levels in `residuals`[t], which `table` float32[256,
    levels in a byte] names; brought to length 1 where `unit`."""

def products(centroids: NDArray[np.uint16], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32[K, multiple of 32]: the inner products of centroids, the bits of float16[K, width], and query vectors float32[n, width],
    filled up with zeros."""

def leveled(products: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, float]:
    """(levels of the same shape, low, step): a number is about low + step * its level, off by half a step; `low` is the least one. All
    are finite."""

def probes(
    products: NDArray[np.float32], vectors: int, p: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each of the first `vectors` columns of products float32[centroids, vectors or more] the p best centroids, int64[vectors, p],
    best first, ties to the smaller number, and their products."""

def by_centroid(
    levels: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    low: float,
    step: float,
    codes: NDArray[np.uint16],
    offsets: NDArray[np.int64],
    docs: NDArray[np.int64],
) -> NDArray[np.float32]:
    """float32[p, m]: MaxSim of the vectors bounds[i] to bounds[i + 1] of one query and the centroids of the documents' tokens; -inf for a
    document without a token. `levels` uint8[centroids, multiple of 32] are those of their products, filled up with anything."""

def scanned(
    levels: NDArray[np.uint8],
    entries: NDArray[np.uint8],
    weights: NDArray[np.uint16],
    steps: NDArray[np.float32],
    low: float,
    first: int,
    last: int,
    codes: NDArray[np.uint16],
    residuals: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    docs: NDArray[np.int64],
) -> NDArray[np.float32]:
    """float32[m]: MaxSim of the vectors `first`, an even one, to `last` of one query and the decoded tokens of the documents, not brought to
    length 1, by `LookupTables`; -inf for a document without a token. `low` is that of these vectors, `levels` are those of `by_centroid`.
    Two look-ups a byte of residual and query vector, 32 tokens at once."""

def multiplied(
    levels: NDArray[np.uint8],
    vectors: NDArray[np.int8],
    values: NDArray[np.uint8],
    weights: NDArray[np.int16],
    steps: NDArray[np.float32],
    low: float,
    first: int,
    last: int,
    codes: NDArray[np.uint16],
    residuals: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    docs: NDArray[np.int64],
) -> NDArray[np.float32]:
    """The same by `ByteProducts`, `first` being a multiple of 16: `width` products of bytes a token and query vector, 64 in an instruction where the processor has
    AVX512_VNNI, and plain loops elsewhere."""

def multiplies_bytes() -> bool:
    """Whether this processor has AVX512_VNNI."""

def candidates(
    list_offsets: NDArray[np.int64],
    list_docs: NDArray[np.uint32],
    probes: NDArray[np.int64],
    gains: NDArray[np.float32],
    documents: int,
    allowed: NDArray[np.uint8] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Documents in the inverted lists of a query's `probes` int64[vectors, p] (centroids, best first; -1 for none), and for each the
    sum over the query's vectors of the gain float32[vectors, p] of its first probe. Memory: 8 bytes a document of the collection."""

class Refinement:
    """The best `wanted` better scores; what the first of a query's vectors added to scores, and the line through what the others added by
    that (least squares). Each better score counts once, as copies of a document say it once."""

    def __init__(self, wanted: int) -> None: ...
    def begin(
        self,
        better: NDArray[np.float32],
        begun: NDArray[np.float32],
        scores: NDArray[np.float32],
        sure: float,
        known: int,
    ) -> NDArray[np.int64]:
        """Of documents, by the first vectors only, better scores float32[n] and scores `begun`, and their whole `scores`: the numbers of
        those that may come among the best, where the other vectors add `sure` deviations more than the line says. All of them before
        there are `wanted` better scores and `known` different ones."""

    def learn(
        self,
        better: NDArray[np.float32],
        scores: NDArray[np.float32],
        added: NDArray[np.float32] | None,
    ) -> None:
        """Better scores float32[n] of documents that had the scores float32[n]; what the first vectors `added`, None where nothing was
        asked of these alone."""

    def settled(self, score: float, sure: float, known: int) -> bool:
        """Whether a document of this score is not likely to come among the best, though it gains `sure` deviations more than the mean. Not
        before there are `wanted` better scores and `known` different ones."""
