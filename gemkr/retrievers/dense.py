"""Dense retrieval: one vector for each query and document, the documents with the largest inner products.

Knows encoders by their protocol only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.config.section import Section, section_files
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import Allowed, Encoder, VectorIndex
from gemkr.models.encoders import ENCODERS
from gemkr.retrievers.embedding import ANEW, Embedded, blocks_of, rankings_of, remedy_for, write_missing
from gemkr.types import Query, Ranking
from gemkr.vector_index.exact import ExactIndex
from gemkr.vector_index.indexes import INDEXES
from gemkr.vector_index.learned_segments import build_learned, held_index
from gemkr.vector_index.segment_store import live_parts
from gemkr.vector_index.segment_vectors import VectorKind, segment_vectors
from gemkr.vector_index.sharded_search import ShardedVectors
from gemkr.vector_index.store import VectorWriter, open_vectors, plan_of
from gemkr.vector_index.vectors import DTYPES, as_stored, joined

if TYPE_CHECKING:
    from gemkr.sources import Sources


class DenseRetriever:
    """Ranks documents by the inner products of their vectors with the query's."""

    embeds_into = "vectors"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """An encoder, and the folder of its document vectors that `gemkr embed` has made; without one, the corpus is encoded
        each time. Those of a collection follow its changes: few new documents are encoded when the retriever is opened, and searched
        exactly until `gemkr embed` builds an index that is learned anew; those of shards are searched where the shards are. Vectors are kept as `dtype` (float32, float16, int8) and searched by an `index`
        (default: exact). `batch_size` queries are encoded and searched together."""

        encoder: Annotated[Section, ENCODERS]
        vectors: FilePath | None = None
        dtype: str = "float16"
        index: Annotated[Section | None, INDEXES] = None
        batch_size: Positive = 64

        def __post_init__(self) -> None:
            if self.dtype not in DTYPES:
                raise ConfigError(f"dtype {self.dtype!r} is unknown; vectors are kept as {', '.join(DTYPES)}")

    def __init__(
        self, encoder: Encoder, index: VectorIndex, doc_ids: Sequence[str], *, batch_size: int = 64
    ) -> None:
        """`doc_ids[i]` names document i of the index; DataError when their numbers differ."""
        if len(index) != len(doc_ids):
            raise DataError(
                f"the index holds {len(index)} vectors and there are {len(doc_ids)} ids; embed the same corpus"
            )
        self.encoder, self.index, self.doc_ids, self.batch_size = encoder, index, doc_ids, batch_size

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> DenseRetriever:
        """Over the corpus of the configuration; DataError for vectors that are missing, or of another encoder or corpus."""
        encoder, documents = sources.part(config.encoder), sources.documents
        section, folder = config.index, config.vectors
        kind, settings = (
            (ExactIndex, ExactIndex.Config()) if section is None else (section.cls, section.config)
        )
        parts = live_parts(documents)
        remedy = "" if folder is None else remedy_for(folder, cls.embeds_into, parts)
        if folder is None:
            blocks = (encoder.encode_documents(block) for block in blocks_of(documents))
            index = kind.from_config(settings, joined([as_stored(block, config.dtype) for block in blocks]))
        elif parts is None:
            vectors = open_vectors(folder, plan_of(encoder, documents, config.dtype), remedy)
            index = kind.from_config(settings, vectors, folder)
        elif (shards := sources.shards) is not None:
            made = VectorKind(encoder, config.dtype)
            index = ShardedVectors(shards, folder, parts, made, kind, settings, remedy)
        else:
            held, _ = segment_vectors(folder, parts, encoder, config.dtype, remedy)
            index = held_index(kind, settings, folder, held)
        return cls(encoder, index, documents.doc_ids, batch_size=config.batch_size)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the encoder is read from, and the vectors."""
        return section_files(config.encoder) | {"vectors": config.vectors}

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of min(k, allowed documents) hits per query, in order."""
        return rankings_of(self.encoder, self.index, self.doc_ids, queries, k, allowed, self.batch_size)

    @staticmethod
    def embed(config: Config, sources: Sources, *, progress: bool = True) -> Embedded:
        """Write the document vectors that this retriever reads, and its index; what was interrupted goes on.

        DataError where `vectors` holds vectors of another encoder or corpus, or damaged ones.
        """
        encoder, documents = sources.part(config.encoder), sources.documents
        if (parts := live_parts(documents)) is not None:
            held, found = segment_vectors(
                config.vectors, parts, encoder, config.dtype, ANEW, most=math.inf, progress=progress
            )
            section = config.index
            built = (
                section is not None
                and hasattr(section.cls, "prepare")
                and build_learned(section.cls, section.config, config.vectors, held)
            )
            return Embedded(found.encoded, found.there, built)
        plan = plan_of(encoder, documents, config.dtype)
        writer_of = partial(VectorWriter, config.vectors, plan)
        there = write_missing(config.vectors, writer_of, encoder, documents, progress=progress)
        vectors = open_vectors(config.vectors, plan, ANEW)
        prepare = getattr(getattr(config.index, "cls", None), "prepare", None)
        built = prepare is not None and prepare(config.index.config, vectors, config.vectors)
        return Embedded(len(documents) - there, there, built)
