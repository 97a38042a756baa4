"""A document scorer by vectors: the inner product of a query's vector with those of the documents, made by `gemkr embed`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from gemkr.config.paths import FilePath
from gemkr.config.section import Section, section_files
from gemkr.errors import DataError
from gemkr.interfaces import Encoder
from gemkr.models.encoders import ENCODERS
from gemkr.types import Query
from gemkr.vector_index.exact import ExactIndex
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.segment_vectors import VectorKind, corpus_vectors
from gemkr.vector_index.sharded_search import ShardedVectors
from gemkr.vector_index.vectors import Vectors

REMEDY = "make them with gemkr embed, from a dense retriever's section with the same encoder and vectors, others' deleted first"


BLOCK = 32
"""Queries of a file that are encoded together."""


class DenseScorer:
    """Scores given documents by an encoder. Costs one encoding of each query and one row of the vectors for each document.

    One of `queries`, which are expected in this order, is encoded with its block of them; the same blocks wherever a run begins.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """An encoder, and the folder of the corpus's vectors, kept as `dtype`: what a dense retriever's section names."""

        encoder: Annotated[Section, ENCODERS]
        vectors: FilePath
        dtype: str = "float16"

    def __init__(
        self, encoder: Encoder, vectors: Vectors | LiveVectors | ShardedVectors, queries: Sequence[Query] = ()
    ) -> None:
        """DataError when the encoder makes vectors of another width."""
        if vectors.width != encoder.width:
            raise DataError(
                f"the encoder makes vectors of {encoder.width} numbers, the documents' have {vectors.width}; use one encoder for both"
            )
        self.encoder, self.vectors, self.queries = encoder, vectors, queries
        self._places = {query: place for place, query in enumerate(queries)}
        self._encoded: dict[Query, np.ndarray] = {}

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> DenseScorer:
        """DataError for vectors that are missing, or of another encoder or corpus."""
        encoder = sources.part(config.encoder)
        if (shards := sources.shards) is None:
            vectors = corpus_vectors(config.vectors, sources.documents, encoder, config.dtype, REMEDY)
        else:
            made, parts = VectorKind(encoder, config.dtype), sources.documents.live_parts
            exact = ExactIndex, ExactIndex.Config()
            vectors = ShardedVectors(shards, config.vectors, parts, made, *exact, REMEDY)
        return cls(encoder, vectors, sources.queries)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the encoder is read from, and the vectors."""
        return section_files(config.encoder) | {"vectors": config.vectors}

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]."""
        return self.vectors.products(docs, self._vector(query))

    def _vector(self, query: Query) -> np.ndarray:
        """float32[width]."""
        if query not in self._encoded:
            block = [query]
            if query in self._places:
                start = self._places[query] // BLOCK * BLOCK
                block = list(self.queries[start : start + BLOCK])
            rows = self.encoder.encode_queries(block).astype(np.float32, copy=False)
            self._encoded = dict(zip(block, rows, strict=True))
        return self._encoded[query]
