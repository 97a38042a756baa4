"""Encoders and a reranker without weights: texts with many words in common are near."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.types import Document, Query, Ranking


class WordEncoder:
    """An `Encoder` without weights: the sum of a text's words, each a pseudo-random vector of its own, of length 1.

    Texts with many words in common are near. A query's instruction counts as words of it; pictures count as a word each.
    """

    @dataclass(frozen=True)
    class Config:
        """`width` numbers a vector, drawn by `seed`."""

        width: int = 64
        seed: int = 0

    def __init__(self, width: int = 64, seed: int = 0) -> None:
        self.width, self.seed = width, seed

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> WordEncoder:
        return cls(config.width, config.seed)

    @property
    def fingerprint(self) -> str:
        return f"words {self.width} {self.seed}"

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray:
        return self._encode([_words(query.instruction, query.question, query.image) for query in queries])

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray:
        return self._encode([_words(document.contents, document.image) for document in documents])

    def word_vectors(self, words: Sequence[str]) -> np.ndarray:
        """float32[words, width], each of length 1."""
        vectors = np.empty((len(words), self.width), np.float32)
        for number, word in enumerate(words):
            digest = hashlib.blake2b(f"{self.seed} {word}".encode(), digest_size=8).digest()
            random = np.random.default_rng(int.from_bytes(digest, "little"))
            vectors[number] = random.standard_normal(self.width)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _encode(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.width), np.float32)
        for number, words in enumerate(texts):
            if words:
                vectors[number] = self.word_vectors(words).sum(axis=0)
                vectors[number] /= np.linalg.norm(vectors[number])
        return vectors


class WordTokenEncoder:
    """A `TokenEncoder` without weights: one vector for each word, those of `WordEncoder`."""

    @dataclass(frozen=True)
    class Config:
        """As for WordEncoder."""

        width: int = 64
        seed: int = 0

    def __init__(self, width: int = 64, seed: int = 0) -> None:
        self.width, self._words = width, WordEncoder(width, seed)

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> WordTokenEncoder:
        return cls(config.width, config.seed)

    @property
    def fingerprint(self) -> str:
        return f"tokens of {self._words.fingerprint}"

    def encode_queries(self, queries: Sequence[Query]) -> TokenVectors:
        return self._encode([_words(query.question, query.image) for query in queries])

    def encode_documents(self, documents: Sequence[Document]) -> TokenVectors:
        return self._encode([_words(document.contents, document.image) for document in documents])

    def _encode(self, texts: Sequence[Sequence[str]]) -> TokenVectors:
        offsets = np.cumsum([0, *(len(words) for words in texts)], dtype=np.int64)
        every = [word for words in texts for word in words]
        return TokenVectors(self._words.word_vectors(every).astype(np.float16), offsets)


class ReversingReranker:
    """A `Reranker` that turns a ranking round."""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> ReversingReranker:
        return cls()

    def rerank(self, query: Query, ranking: Ranking) -> Ranking:
        hits = tuple(replace(hit, score=-hit.score) for hit in reversed(ranking.hits))
        return replace(ranking, hits=hits)


def _words(*texts: str | None) -> list[str]:
    return [
        word.strip(".,?!").lower() for text in texts if text for word in text.split() if word.strip(".,?!")
    ]
