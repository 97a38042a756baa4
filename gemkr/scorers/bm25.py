"""BM25 over a corpus (bm25s): the second scorer inside a clue's span, the miner's ranking, the lexical baseline.

English stop words, Snowball stemmer, Lucene's formula. Needs bm25s and PyStemmer. Knows document numbers only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gemkr.types import Document, Query

COUNTED_TEXTS = 1024
"""Texts whose terms are remembered: one query is scored more than once."""
MANY = 16
"""From this part of the corpus on, scoring all of its documents is quicker than looking each one up."""


class BM25:
    """Scores documents of one corpus against query texts; higher is better, 0 means no word in common.

    Building reads the corpus once (about 10 s and 0.5 GB for 100,000 passages of 100 words).
    """

    @dataclass(frozen=True)
    class Config:
        """BM25 over the corpus, with the usual constants."""

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> BM25:
        """The one that all sections of a configuration share."""
        return sources.bm25

    def __init__(
        self, documents: Iterable[Document], *, k1: float = 1.5, b: float = 0.75, detections: bool = False
    ) -> None:
        """Index `Document.contents`; with `detections` a query's detected labels join its text.

        Over no documents (a collection that was emptied) nothing is found.
        """
        import bm25s
        import Stemmer
        from bm25s.tokenization import Tokenizer

        logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG
        self._detections = detections
        self.settings = f"k1 {k1}, b {b}, detections {detections}"
        self._tokenizer = Tokenizer(stopwords="english", stemmer=Stemmer.Stemmer("english"))
        texts = [document.contents for document in documents]
        self._length = len(texts)
        self._counted = lru_cache(COUNTED_TEXTS)(self._count_terms)
        self._no_word = -1
        self._weights = np.zeros(0, np.float32)  # one per (word, document)
        self._docs = np.zeros(0, np.int64)  # their documents, ascending within a word
        self._words = np.zeros(1, np.int64)  # word w owns [words[w], words[w + 1])
        if not texts:  # which the library cannot index
            return
        ids = self._tokenizer.tokenize(texts, update_vocab=True, show_progress=False, return_as="tuple")
        self._no_word = ids.vocab.get("", -1)  # what stands for a text without words
        engine = bm25s.BM25(k1=k1, b=b)
        engine.index(ids, show_progress=False)
        self._weights, self._docs = engine.scores["data"], engine.scores["indices"]
        self._words = engine.scores["indptr"]

    def __len__(self) -> int:
        return self._length

    def query_text(self, query: Query) -> str:
        """The words that a query is scored by: question, caption and, where wanted, detected labels."""
        parts = [query.question, query.caption or "", *(query.detections if self._detections else ())]
        return " ".join(part for part in parts if part)

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n]: the score of each document number in docs int64[n]. About 1 ms for 1,000 documents."""
        return self.score_text(self.query_text(query), docs)

    def score_text(self, text: str, docs: np.ndarray) -> np.ndarray:
        """`score` for a plain text."""
        docs = np.asarray(docs)
        if len(docs) * MANY > self._length:
            return self.score_all(text)[docs]
        scores = np.zeros(len(docs), dtype=np.float32)
        for word, times in self.count_terms(text):
            lo, hi = self._words[word], self._words[word + 1]
            holders = self._docs[lo:hi]
            at = np.minimum(np.searchsorted(holders, docs), hi - lo - 1)
            scores += np.where(
                holders[at] == docs, self._weights[lo:hi][at] * np.float32(times), np.float32(0)
            )
        return scores

    def score_all(self, text: str) -> np.ndarray:
        """float32[N]: the score of every document of the corpus; about 2 ms for 100,000."""
        scores = np.zeros(self._length, dtype=np.float32)
        for word, times in self.count_terms(text):
            lo, hi = self._words[word], self._words[word + 1]
            scores[self._docs[lo:hi]] += self._weights[lo:hi] * np.float32(times)
        return scores

    def top(self, text: str, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The best k documents that share a word with the text: (docs int64[<=k], scores float32), best first.

        Only those that `allowed` bool[N] marks, where it is given. Ties go to the smaller document number. Cost: one pass
        over the corpus' document numbers.
        """
        scores = self.score_all(text)
        if allowed is not None:
            scores[~allowed] = 0
        found = np.flatnonzero(scores > 0)
        if 0 < k < len(found):  # few ties here, unlike among the zeros, which would slow the selection down
            held = scores[found]
            found = found[held >= np.partition(held, len(held) - k)[len(held) - k]]
        best = found[np.argsort(-scores[found], kind="stable")[: max(k, 0)]]
        return best.astype(np.int64), scores[best]

    def documents_per_term(self) -> np.ndarray:
        """int64[terms]: how many documents hold each term (the stem of a word)."""
        return np.diff(self._words)

    def postings(self, term: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents of a term, ascending, and its weight float32 in each."""
        lo, hi = self._words[term], self._words[term + 1]
        return self._docs[lo:hi], self._weights[lo:hi]

    def count_terms(self, text: str) -> list[tuple[int, int]]:
        """(term, occurrences) of the indexed words of a text, in the order of first occurrence."""
        return list(self._counted(text))

    def _count_terms(self, text: str) -> list[tuple[int, int]]:
        if not self._length:
            return []
        (ids,) = self._tokenizer.tokenize([text], update_vocab=False, show_progress=False, return_as="ids")
        counts: dict[int, int] = {}
        for word in ids:
            if (
                word != self._no_word
                and word + 1 < len(self._words)
                and self._words[word] < self._words[word + 1]
            ):
                counts[word] = counts.get(word, 0) + 1
        return list(counts.items())
