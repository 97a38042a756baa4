"""The documents of clues: which hold a clue, which of them are the best of its span, and where the clue stands in each.

A clue is a set of documents (its span) with a probability. Knows indexes and document scorers, not models.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gemkr.fm_index import Span
from gemkr.interfaces import DocumentScorer, TokenIndex
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.ends import all_documents, ending_documents
from gemkr.scorers.blend import scaled
from gemkr.text.borders import Borders
from gemkr.types import Clue, Evidence, Hit, Query

CACHED_SPANS = 4096


@dataclass(frozen=True, slots=True)
class ClueTable:
    """The documents of one query's clues.

    `docs` int64[n], ascending: every document on some clue's shortlist; `holds` bool[clues, n]: the document
    holds the clue (also where it is not on this clue's shortlist); `second` float32[n]: the second scorer,
    scaled to [0, 1] over `docs`, or without one the rank by occurrences.
    """

    docs: np.ndarray
    holds: np.ndarray
    second: np.ndarray


class ClueDocuments:
    """Looks up the documents of clues; frequent spans are cached across queries.

    Reads at most `rows_per_clue` occurrences of a clue, and keeps the `documents_per_clue` best of its
    documents by the second scorer. With `borders`, only documents in which the clue ends at one count; a clue that nowhere
    does (of a run without the rule) has all of its documents.
    """

    def __init__(
        self,
        index: TokenIndex,
        settings: ScoringConfig,
        second: DocumentScorer | None = None,
        borders: Borders | None = None,
    ) -> None:
        self.index = index
        self.settings = settings
        self.second = second
        self.borders = borders
        self.allowed: np.ndarray | None = None
        self._documents = lru_cache(maxsize=CACHED_SPANS)(self._read)

    def within(self, allowed: np.ndarray) -> ClueDocuments:
        """The same, but no document counts that `allowed` bool[N] does not mark; cached spans are kept."""
        narrowed = copy(self)
        narrowed.allowed = allowed
        narrowed._documents = lambda span, last: tuple(
            docs[allowed[docs]] for docs in self._documents(span, last)
        )
        return narrowed

    def first(self, clue: Clue) -> int | None:
        """The document of the clue's first row (with borders: of most occurrences); None where it is not allowed."""
        if self.borders is not None:
            return next(iter(self._of(clue)[1].tolist()), None)
        doc = int(self.index.documents(Span(clue.span.lo, clue.span.lo + 1))[0][0])
        return doc if self.allowed is None or self.allowed[doc] else None

    def table(self, query: Query, clues: Sequence[Clue]) -> ClueTable:
        """The table of one query's clues; costs one `documents` call per clue that is not cached."""
        spans = [self._of(clue) for clue in clues]
        if not spans:
            empty = np.zeros(0, dtype=np.int64)
            return ClueTable(empty, np.zeros((0, 0), dtype=bool), empty.astype(np.float32))
        short = self._shortlists(query, [by_occurrences for _, by_occurrences in spans])
        docs = np.unique(np.concatenate(short))
        holds = np.stack([_contained(docs, ascending) for ascending, _ in spans])
        if self.second is not None:
            second = self.second.score(query, docs)
        else:
            second = np.zeros(len(docs), dtype=np.float32)
            for listed in short:
                at = np.searchsorted(docs, listed)
                second[at] = np.maximum(second[at], 1 / np.arange(1, len(listed) + 1, dtype=np.float32))
        return ClueTable(docs, holds, scaled(np.asarray(second, dtype=np.float32)))

    def spans(self, clues: Sequence[Clue]) -> list[np.ndarray]:
        """int64[n] for each clue: all its documents, ascending."""
        return [self._of(clue)[0] for clue in clues]

    def best(self, query: Query, clues: Sequence[Clue], most: int) -> list[np.ndarray]:
        """int64[<= most] for each clue: its documents, best first by the second scorer, or without one by occurrences."""
        spans = [self._of(clue)[1] for clue in clues]
        if self.second is None or not spans:
            return [docs[:most] for docs in spans]
        every = np.unique(np.concatenate(spans))
        scores = np.asarray(self.second.score(query, every))
        by_score = [np.argsort(-scores[np.searchsorted(every, docs)], kind="stable") for docs in spans]
        return [docs[order[:most]] for docs, order in zip(spans, by_score, strict=True)]

    def evidence(self, clues: Sequence[Clue], doc: int) -> tuple[Evidence, ...]:
        """Where each clue first occurs in the document, best clue first; clues that do not occur are left out."""
        tokens = np.asarray(self.index.extract(doc), dtype=np.int64)
        found = []
        for clue in clues:
            start = self._place(tokens, np.array(clue.tokens, dtype=np.int64))
            if start is not None:
                found.append(Evidence(clue.text, clue.log_prob, start, start + len(clue.tokens)))
        return tuple(found)

    def hit(self, clues: Sequence[Clue], doc: int, score: float) -> Hit:
        return Hit(self.index.doc_ids[int(doc)], float(score), self.evidence(clues, int(doc)))

    def _place(self, tokens: np.ndarray, pattern: np.ndarray) -> int | None:
        """Where the pattern first occurs; with borders, where it first ends at one."""
        places = _places(tokens, pattern)
        if not len(places):
            return None
        if self.borders is not None:
            after = places + len(pattern)
            inside = after < len(tokens)
            ends = ~inside
            ends[inside] = self.borders.after(int(pattern[-1]))[tokens[after[inside]]]
            places = places[ends] if ends.any() else places
        return int(places[0])

    def _shortlists(self, query: Query, spans: list[np.ndarray]) -> list[np.ndarray]:
        """The best documents of each span by the second scorer, which is called once for all of them."""
        most = self.settings.documents_per_clue
        long = [docs for docs in spans if len(docs) > most]
        if self.second is None or not long:
            return [docs[:most] for docs in spans]
        every = np.unique(np.concatenate(long))
        scores = self.second.score(query, every)
        return [
            docs
            if len(docs) <= most
            else docs[np.argsort(-scores[np.searchsorted(every, docs)], kind="stable")[:most]]
            for docs in spans
        ]

    def _of(self, clue: Clue) -> tuple[np.ndarray, np.ndarray]:
        return self._documents((clue.span.lo, clue.span.hi), clue.tokens[-1])

    def _read(self, rows_of_span: tuple[int, int], last: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents of a span of clues that end with the token `last`, ascending and by occurrences (most first)."""
        span, rows = Span(*rows_of_span), self.settings.rows_per_clue
        if self.borders is not None:
            docs = ending_documents(self.index, span, self.borders.after(last), rows)
        else:
            docs = all_documents(self.index, span, rows)
        return np.sort(docs), docs


def _contained(docs: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """bool[n]: which of `docs` stand in a long ascending array."""
    if not len(ascending):
        return np.zeros(len(docs), dtype=bool)
    at = np.minimum(np.searchsorted(ascending, docs), len(ascending) - 1)
    return ascending[at] == docs


def _places(tokens: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """int64[n]: where the pattern begins in the tokens, ascending."""
    if not 0 < len(pattern) <= len(tokens):
        return np.zeros(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, len(pattern))
    return np.flatnonzero((windows == pattern).all(axis=1))
