"""The documents in which a clue stands as whole words: not `ski` in `skiing`, whatever the tokenizer makes of it.

A clue's span holds all of its occurrences; which of them end with a word is told by the token that follows. Knows the
index and which tokens break words, not scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.fm_index import Span
from gemkr.interfaces import TokenIndex


def whole_word_documents(
    index: TokenIndex, tokens: Sequence[int], span: Span, word_break: np.ndarray, rows: int
) -> np.ndarray:
    """int64[n] document numbers in no order: those where a word may end after the clue, by `word_break` bool[V].

    A clue that nowhere ends a word gives all of its documents. At most about `rows` occurrences are read. Cost: one
    `documents` call for each token that follows and breaks words, and a look at the ends of the documents that end
    with the clue.
    """
    lo, hi = np.array([span.lo]), np.array([span.hi])
    _, following, _ = index.next_tokens_many(lo, hi)
    breaks = following[word_break[following]]
    starts, stops = index.extend_many(np.repeat(lo, len(breaks)), np.repeat(hi, len(breaks)), breaks)
    found, left = [np.zeros(0, dtype=np.int64)], rows
    for start, stop in zip(starts.tolist(), stops.tolist()):
        if left <= 0:
            break
        stop = min(stop, start + left)
        found.append(np.asarray(index.documents(Span(start, stop))[0], dtype=np.int64))
        left -= stop - start
    docs = np.unique(np.concatenate(found))
    if left > 0 and index.count_ends(span):
        docs = np.union1d(docs, _ending_with(index, tokens, span, docs, left))
    return docs if len(docs) else all_documents(index, span, rows)


def all_documents(index: TokenIndex, span: Span, rows: int) -> np.ndarray:
    """int64[n]: the documents of the first `rows` occurrences, most occurrences first."""
    docs, _ = index.documents(Span(span.lo, min(span.hi, span.lo + rows)))
    return np.asarray(docs, dtype=np.int64)


def _ending_with(
    index: TokenIndex, tokens: Sequence[int], span: Span, known: np.ndarray, rows: int
) -> np.ndarray:
    """The documents, beside the known ones, whose last tokens are the clue's."""
    pattern = np.asarray(tokens)
    others = np.setdiff1d(all_documents(index, span, rows), known, assume_unique=True)
    return np.array(
        [doc for doc in others.tolist() if np.array_equal(index.extract(doc)[-len(pattern) :], pattern)],
        dtype=np.int64,
    )
