"""A document scorer by vectors: the inner product of a query's vector with those of the documents, made by `gemkr embed`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np

from gemkr.config.paths import FilePath
from gemkr.config.section import Section, section_files
from gemkr.errors import DataError
from gemkr.interfaces import Encoder
from gemkr.models.encoders import ENCODERS
from gemkr.types import Query
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.segment_vectors import corpus_vectors
from gemkr.vector_index.vectors import Vectors

REMEDY = "make them with gemkr embed, from a dense retriever's section with the same encoder and vectors"


CACHED_QUERIES = 4
"""Queries whose vectors are kept: a ranking by clues scores one query several times."""


class DenseScorer:
    """Scores given documents by an encoder. Costs one encoding of each new query and one row of the vectors for each document."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """An encoder, and the folder of the corpus's vectors, kept as `dtype`: what a dense retriever's section names."""

        encoder: Annotated[Section, ENCODERS]
        vectors: FilePath
        dtype: str = "float16"

    def __init__(self, encoder: Encoder, vectors: Vectors | LiveVectors) -> None:
        """DataError when the encoder makes vectors of another width."""
        if vectors.width != encoder.width:
            raise DataError(
                f"the encoder makes vectors of {encoder.width} numbers, the documents' have {vectors.width}; use one encoder for both"
            )
        self.encoder, self.vectors = encoder, vectors
        self._vector = lru_cache(maxsize=CACHED_QUERIES)(self._encode)

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> DenseScorer:
        """DataError for vectors that are missing, or of another encoder or corpus."""
        encoder = sources.part(config.encoder)
        return cls(encoder, corpus_vectors(config.vectors, sources.documents, encoder, config.dtype, REMEDY))

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the encoder is read from, and the vectors."""
        return section_files(config.encoder) | {"vectors": config.vectors}

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]."""
        return self.vectors.take(docs) @ self._vector(query)

    def _encode(self, query: Query) -> np.ndarray:
        """float32[width]."""
        return self.encoder.encode_queries([query])[0].astype(np.float32, copy=False)
