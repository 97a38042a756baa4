"""Shards with several segments and deleted documents, encoders of whole numbers, and one plain store of the same documents.

Sums of small whole numbers are exact in any order, so that scores are compared with ==, and equal ones are many.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection import policy
from gemkr.collection.sharded import ShardedCollection
from gemkr.config.files import from_mapping
from gemkr.evaluation.config import EvalConfig
from gemkr.interfaces import TokenVectors
from gemkr.sources import Sources
from gemkr.types import Document, Query

WIDTH = 24
WORDS = [word for text in TEXTS for word in text.split()]
QUERIES = [Query(str(number), f"question {number}") for number in range(5)]


class Drawn:
    """An `Encoder`: whole numbers drawn by the text."""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    width, fingerprint = WIDTH, "drawn"

    @classmethod
    def from_config(cls, config: object, sources: Any) -> Drawn:
        return cls()

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray:
        return np.stack([_drawn(query.question, 1)[0] for query in queries])

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray:
        return np.stack([_drawn(document.text, 1)[0] for document in documents])


class DrawnTokens(Drawn):
    """A `TokenEncoder`: 0 to 4 vectors for a document, which has none where its words are a multiple of 5."""

    def encode_queries(self, queries: Sequence[Query]) -> TokenVectors:
        return _joined([_drawn(query.question, 3) for query in queries])

    def encode_documents(self, documents: Sequence[Document]) -> TokenVectors:
        return _joined([_drawn(d.text, len(d.text.split()) % 5) for d in documents])


def _drawn(text: str, rows: int) -> np.ndarray:
    draw = np.random.default_rng(zlib.crc32(text.encode()))
    return draw.integers(-3, 4, (rows, WIDTH)).astype(np.float32)


def _joined(each: list[np.ndarray]) -> TokenVectors:
    return TokenVectors(np.concatenate(each).astype(np.float16), np.cumsum([0, *map(len, each)]))


def documents(count: int, first: int = 0) -> list[Document]:
    """Every third text twice."""
    draw = np.random.default_rng(first)
    texts = [" ".join(draw.choice(WORDS, draw.integers(3, 12))) for _ in range(count)]
    return [Document(f"p{first + i}", texts[i - i % 3 // 2]) for i in range(count)]


def shards_of(folder: Path, shards: int) -> ShardedCollection:
    """166 live documents of 180, in three segments a shard."""
    largest, policy.LARGEST_OF_ADD = policy.LARGEST_OF_ADD, 0
    try:
        made = ShardedCollection.create(
            folder / "wiki",
            shards,
            tokenizer=train_sentencepiece(folder / "t.model"),
            documents=documents(80),
        )
        made.add(documents(60, 80))
        made.delete([f"p{number}" for number in range(3, 140, 10)])
        made.add(documents(40, 140))
    finally:
        policy.LARGEST_OF_ADD = largest
    assert all(len(shard.segments) == 3 and len(shard.deleted.T) for shard in made.shards)
    return made


def configured(corpus: Path, vectors: Path, **given: Any) -> EvalConfig:
    """Retrievers `dense` and `late` over a corpus, and their vectors in a folder beside each other."""
    here, kept = __name__, {"dtype": given.pop("dtype", "float16"), "vectors": str(vectors / "dense")}
    dense = {"kind": "dense", "encoder": f"{here}:Drawn", **kept, "batch_size": 3}
    tokens = str(vectors / "late")
    late = {"kind": "late_interaction", "encoder": f"{here}:DrawnTokens", "tokens": tokens, "batch_size": 3}
    retrievers = {"dense": dense, "late": late}
    return from_mapping({"corpus": str(corpus), "retrievers": retrievers, **given}, EvalConfig, "test")


def embed(config: EvalConfig) -> None:
    """Make all vectors, and the indexes that are learned."""
    sources = config.sources()
    for section in config.retrievers.values():
        section.cls.embed(section.config, sources, progress=False)


def plain(collection: ShardedCollection, folder: Path, **given: Any) -> Sources:
    """The live documents in one file, in the order of the shards, with stores of their own."""
    folder.mkdir()
    rows = [json.dumps({"id": d.doc_id, "text": d.text}) + "\n" for d in collection.documents]
    (folder / "corpus.jsonl").write_text("".join(rows))
    config = configured(folder / "corpus.jsonl", folder, **given)
    embed(config)
    return config.sources()


def hits(sources: Sources, name: str, k: int, allowed: Any = None) -> list[list[tuple[str, float]]]:
    """What the retriever `name` finds for QUERIES."""
    rankings = sources.retriever(name).retrieve(QUERIES, k, allowed=allowed)
    return [[(hit.doc_id, hit.score) for hit in ranking.hits] for ranking in rankings]
