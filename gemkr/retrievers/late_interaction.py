"""Late interaction: a vector for each token of query and document; documents are ranked by MaxSim (ColBERT, FLMR, PreFLMR).

Knows encoders and indexes by their protocols only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

import numpy as np

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.config.section import Section, section_files
from gemkr.errors import DataError
from gemkr.interfaces import Allowed, TokenEncoder, TokenVectorIndex, TokenVectors
from gemkr.models.encoders import TOKEN_ENCODERS
from gemkr.retrievers.embedding import ANEW, Embedded, blocks_of, rankings_of, remedy_for, write_missing
from gemkr.types import Document, Query, Ranking, TokenMatch
from gemkr.vector_index.learned_segments import build_learned, held_index
from gemkr.vector_index.live_tokens import LiveTokens, as_live
from gemkr.vector_index.maxsim import joined_tokens
from gemkr.vector_index.segment_store import live_parts
from gemkr.vector_index.segment_tokens import TokenKind, segment_tokens
from gemkr.vector_index.sharded_search import ShardedTokens
from gemkr.vector_index.token_exact import ExactTokenIndex
from gemkr.vector_index.token_indexes import TOKEN_INDEXES
from gemkr.vector_index.token_store import TokenWriter, open_tokens, plan_of_tokens
from gemkr.vector_index.vectors import as_stored

if TYPE_CHECKING:
    from gemkr.sources import Sources

NAMED = 3
logger = logging.getLogger(__name__)


class LateInteractionRetriever:
    """Ranks documents by MaxSim: for each query vector the best inner product with the document's, summed."""

    embeds_into = "tokens"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A token encoder, and the folder of its document vectors (`tokens`) that `gemkr embed` has made; without one, the corpus is
        encoded each time. Those of a collection follow its changes: few new documents are encoded when the retriever is opened, and
        searched exactly until `gemkr embed` builds an index that is learned anew; those of shards are searched where the shards are. Searched by an `index` (default: exact); `batch_size` queries are encoded and searched
        together."""

        encoder: Annotated[Section, TOKEN_ENCODERS]
        tokens: FilePath | None = None
        index: Annotated[Section | None, TOKEN_INDEXES] = None
        batch_size: Positive = 16

    def __init__(
        self, encoder: TokenEncoder, index: TokenVectorIndex, doc_ids: Sequence[str], *, batch_size: int = 16
    ) -> None:
        """`doc_ids[i]` names document i of the index; DataError when their numbers differ."""
        if len(index) != len(doc_ids):
            raise DataError(
                f"the index holds the tokens of {len(index)} documents and there are {len(doc_ids)} ids; embed the same corpus"
            )
        self.encoder, self.index, self.doc_ids, self.batch_size = encoder, index, doc_ids, batch_size

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> LateInteractionRetriever:
        """Over the corpus of the configuration; DataError for tokens that are missing, or of another encoder or corpus."""
        encoder, documents = sources.part(config.encoder), sources.documents
        section, folder = config.index, config.tokens
        kind, settings = (
            (ExactTokenIndex, ExactTokenIndex.Config()) if section is None else (section.cls, section.config)
        )
        parts = live_parts(documents)
        remedy = "" if folder is None else remedy_for(folder, cls.embeds_into, parts)
        if folder is not None and parts is not None and (shards := sources.shards) is not None:
            index = ShardedTokens(shards, folder, parts, TokenKind(encoder), kind, settings, remedy)
            _warn_of_empty([documents.doc_ids[number] for number in index.empty.tolist()])
            return cls(encoder, index, documents.doc_ids, batch_size=config.batch_size)
        if folder is not None and parts is not None:
            held, _ = segment_tokens(folder, parts, encoder, remedy)
            _warn_of_empty(_empty(held.live, documents.doc_ids))
            index = held_index(kind, settings, folder, held)
            return cls(encoder, index, documents.doc_ids, batch_size=config.batch_size)
        if folder is None:
            blocks = [encoder.encode_documents(block) for block in blocks_of(documents)]
            joined = joined_tokens(blocks, encoder.width)
            tokens = TokenVectors(as_stored(joined.values, "float16").values, joined.offsets)
        else:
            tokens = open_tokens(folder, plan_of_tokens(encoder, documents), remedy)
        _warn_of_empty(_empty(tokens, documents.doc_ids))
        index = kind.from_config(settings, tokens, folder)
        return cls(encoder, index, documents.doc_ids, batch_size=config.batch_size)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What the encoder is read from, and the tokens."""
        return section_files(config.encoder) | {"tokens": config.tokens}

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        """One ranking of min(k, allowed documents with a token) hits per query, in order."""
        return rankings_of(self.encoder, self.index, self.doc_ids, queries, k, allowed, self.batch_size)

    @property
    def explains(self) -> bool:
        """Whether `explain` can say what vectors stand for."""
        return hasattr(self.encoder, "describe_query")

    def explain(self, query: Query, documents: Sequence[Document]) -> list[tuple[TokenMatch, ...]]:
        """What each vector of a query found in each document, in the order of the vectors; none for a document without a token. All
        are encoded anew, the documents in one batch."""
        if not documents:
            return []
        asked, held = self.encoder.encode_queries([query]), self.encoder.encode_documents(documents)
        vectors, found = self.encoder.describe_query(query), []
        for document, (start, stop) in zip(documents, pairwise(held.offsets.tolist()), strict=True):
            if start == stop:
                found.append(())
                continue
            products = asked.values.astype(np.float32) @ held.values[start:stop].astype(np.float32).T
            ranges = self.encoder.describe_document(document)[products.argmax(axis=1)].tolist()
            each = zip(vectors, ranges, products.max(axis=1).tolist(), strict=True)
            found.append(tuple(TokenMatch(vector, *place, score) for vector, place, score in each))
        return found

    @staticmethod
    def embed(config: Config, sources: Sources, *, progress: bool = True) -> Embedded:
        """Write the token vectors that this retriever reads, and its index; what was interrupted goes on.

        DataError where `tokens` holds those of another encoder or corpus.
        """
        encoder, documents = sources.part(config.encoder), sources.documents
        if (parts := live_parts(documents)) is not None:
            held, found = segment_tokens(
                config.tokens, parts, encoder, ANEW, most=math.inf, progress=progress
            )
            section = config.index
            built = (
                section is not None
                and hasattr(section.cls, "prepare")
                and build_learned(section.cls, section.config, config.tokens, held)
            )
            empty = _empty(held.live, documents.doc_ids)
            _warn_of_empty(empty)
            return Embedded(found.encoded, found.there, built, empty)
        plan = plan_of_tokens(encoder, documents)
        writer_of = partial(TokenWriter, config.tokens, plan)
        there = write_missing(config.tokens, writer_of, encoder, documents, progress=progress)
        tokens = open_tokens(config.tokens, plan, ANEW)
        prepare = getattr(getattr(config.index, "cls", None), "prepare", None)
        built = prepare is not None and prepare(config.index.config, tokens, config.tokens)
        empty = _empty(tokens, documents.doc_ids)
        _warn_of_empty(empty)
        return Embedded(len(documents) - there, there, built, empty)


def _empty(tokens: TokenVectors | LiveTokens, doc_ids: Sequence[str]) -> tuple[str, ...]:
    lengths = as_live(tokens).lengths
    return tuple(doc_ids[number] for number in np.flatnonzero(lengths == 0).tolist())


def _warn_of_empty(empty: Sequence[str]) -> None:
    if empty:
        logger.warning(
            "%d documents have no token left to score and are never found: %s%s; give them a text, or take them out of the corpus",
            len(empty), ", ".join(empty[:NAMED]), ", ..." if len(empty) > NAMED else "",
        )  # fmt: skip
