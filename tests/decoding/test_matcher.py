"""What may follow a clue: against plain counting over the documents' tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.decoding.matcher import ClueMatcher
from gemkr.errors import DecodingError
from gemkr.fm_index import FMIndex

CORPORA = st.lists(st.lists(st.integers(0, 4), max_size=7), min_size=1, max_size=5).filter(
    lambda docs: any(t != 3 for d in docs for t in d)
)


def followers(docs: list[list[int]], clue: list[int]) -> tuple[dict[int, int], int]:
    """(token -> occurrences after the clue, occurrences at the end of a document)."""
    counts: dict[int, int] = {}
    at_end = 0
    for doc in docs:
        for start in range(len(doc) - len(clue) + 1):
            if doc[start : start + len(clue)] == clue:
                stop = start + len(clue)
                if stop < len(doc):
                    counts[doc[stop]] = counts.get(doc[stop], 0) + 1
                else:
                    at_end += 1
    return counts, at_end


@given(docs=CORPORA, allow_eos=st.booleans(), min_tokens=st.integers(1, 3), data=st.data())
def test_allowed_is_exact(docs, allow_eos, min_tokens, data) -> None:
    index = FMIndex.build(docs, vocab_size=6)
    word_start = np.array([True, False, True, True, True, False])
    matcher = ClueMatcher(index, word_start=None, stop_tokens=[3], min_tokens=min_tokens, allow_eos=allow_eos)
    slices = [d[i:j] for d in docs for i in range(len(d)) for j in range(i + 1, len(d) + 1)]
    clues = data.draw(st.lists(st.sampled_from(slices), min_size=1, max_size=6))
    spans = [index.search(clue) for clue in clues]
    lo, hi = np.array([s.lo for s in spans]), np.array([s.hi for s in spans])
    allowed = matcher.allowed(lo, hi, np.array([len(clue) for clue in clues]))
    for i, clue in enumerate(clues):
        counts, at_end = followers(docs, clue)
        row = slice(allowed.indptr[i], allowed.indptr[i + 1])
        found = dict(zip(allowed.tokens[row].tolist(), allowed.counts[row].tolist()))
        assert found == {t: n for t, n in counts.items() if t != 3}
        assert allowed.may_end[i] == (len(clue) >= min_tokens and (allow_eos or at_end > 0))
    starts = {t for d in docs for t in d if word_start[t] and t != 3}
    if starts:
        first = ClueMatcher(index, word_start=word_start, stop_tokens=[3])
        assert set(first.first_tokens.tolist()) == starts
        lo, hi = first.start(2)
        root = first.allowed(lo, hi, np.zeros(2, dtype=np.int64))
        assert root.tokens.tolist() == sorted(starts) * 2
        assert not root.may_end.any()


@given(docs=CORPORA, data=st.data())
def test_only_document(docs, data) -> None:
    index = FMIndex.build(docs, vocab_size=5)
    matcher = ClueMatcher(index)
    clue = data.draw(
        st.sampled_from([d[i:j] for d in docs for i in range(len(d)) for j in range(i + 1, len(d) + 1)])
    )
    holders = [n for n, d in enumerate(docs) if followers([d], clue) != ({}, 0)]
    span = index.search(clue)
    assert matcher.only_document(span.lo, span.hi) == (holders[0] if len(holders) == 1 else None)


def test_only_document_of_a_wide_span() -> None:
    index = FMIndex.build([[1] * 100, [2, 3]])
    matcher = ClueMatcher(index)
    span = index.search([1, 1])
    assert matcher.only_document(span.lo, span.hi) == 0
    two = FMIndex.build([[1] * 100, [1] * 100])
    span = two.search([1, 1])
    assert ClueMatcher(two).only_document(span.lo, span.hi) is None


def test_no_rows_at_all() -> None:
    matcher = ClueMatcher(FMIndex.build([[1, 2]]))
    none = np.zeros(0, dtype=np.int64)
    allowed = matcher.allowed(none, none, none)
    assert allowed.indptr.tolist() == [0]
    assert len(allowed.may_end) == 0


def test_an_index_without_tokens_is_refused() -> None:
    with pytest.raises(DecodingError, match=r"holds no tokens.*gemkr collection add"):
        ClueMatcher(FMIndex.build([[], []], vocab_size=4))


def test_a_corpus_without_word_starts_is_refused() -> None:
    index = FMIndex.build([[1, 1]], vocab_size=3)
    with pytest.raises(DecodingError, match="may begin a clue"):
        ClueMatcher(index, word_start=np.array([True, False, True]))
    with pytest.raises(DecodingError, match="covers 2 tokens"):
        ClueMatcher(index, word_start=np.array([True, False]))
