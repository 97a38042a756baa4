"""The documents in which a clue ends where it may, with a word: not `ski` in `skiing`, whatever the tokenizer makes of it.

A clue's span holds all of its occurrences; the token that follows decides which of them end with a word. Knows the
index and which tokens may stand behind the clue, not scores.
"""

from __future__ import annotations

import numpy as np

from gemkr.fm_index import Span
from gemkr.interfaces import TokenIndex


def ending_documents(index: TokenIndex, span: Span, behind: np.ndarray, rows: int) -> np.ndarray:
    """int64[n] document numbers, most occurrences first: where the clue ends, before a token of `behind` bool[V] or with the
    document.

    A clue that nowhere ends so gives all of its documents. Of a clue with more than `rows` occurrences, only
    continuations of `behind` are looked at, and only so many of their occurrences, which alone are counted then.
    Cost: one `documents` call for each token that follows; an index with a document array makes them cheap.
    """
    lo, hi = np.array([span.lo]), np.array([span.hi])
    _, following, _ = index.next_tokens_many(lo, hi)
    ends = span.count <= rows and index.count_ends(span) > 0
    if not ends:
        following = following[behind[following]]
    starts, stops = index.extend_many(np.repeat(lo, len(following)), np.repeat(hi, len(following)), following)
    whole, inside, left = [_EMPTY], [_EMPTY], rows
    counts: list[np.ndarray] = []
    for token, start, stop in zip(following.tolist(), starts.tolist(), stops.tolist()):
        if left <= 0:
            break
        docs, times = index.documents(Span(start, min(stop, start + left)))
        docs = np.asarray(docs, dtype=np.int64)
        if behind[token]:
            whole.append(docs)
        inside.append(docs)
        counts.append(np.asarray(times))
        left -= stop - start
    if ends:
        whole.append(_ending_with(index, span, np.concatenate(inside), counts))
    if span.count > rows:
        found = _most_first(np.concatenate(whole), np.concatenate([_EMPTY, *counts]))
        return found if len(found) else all_documents(index, span, rows)
    docs = all_documents(index, span, rows)
    found = docs[np.isin(docs, np.concatenate(whole))]
    return found if len(found) else docs


def all_documents(index: TokenIndex, span: Span, rows: int) -> np.ndarray:
    """int64[n]: the documents of the first `rows` occurrences, most occurrences first."""
    docs, _ = index.documents(Span(span.lo, min(span.hi, span.lo + rows)))
    return np.asarray(docs, dtype=np.int64)


def _ending_with(
    index: TokenIndex, span: Span, continued: np.ndarray, counts: list[np.ndarray]
) -> np.ndarray:
    """The documents with an occurrence that nothing follows: more in all than are continued."""
    docs, times = index.documents(span)
    order = np.argsort(docs)
    docs, left = np.asarray(docs, dtype=np.int64)[order], np.asarray(times, dtype=np.int64)[order]
    if len(continued):
        np.subtract.at(left, np.searchsorted(docs, continued), np.concatenate(counts).astype(np.int64))
    return docs[left > 0]


def _most_first(docs: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Each document once, those with the most occurrences in all first."""
    docs, of = np.unique(docs, return_inverse=True)
    return docs[np.argsort(-np.bincount(of, times, len(docs)), kind="stable")]


_EMPTY = np.zeros(0, dtype=np.int64)
