"""SegmentedIndex against the naive twin over the live documents: every method, with remembered and with forgotten spans."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segment_twin import VOCAB, assert_agree, patterns_of, segmented

from gemkr.fm_index import FMIndex, IndexQueryError, SegmentedIndex, Span

DOCS = st.lists(st.lists(st.integers(0, 4) | st.integers(0, VOCAB - 1), max_size=8), max_size=12)


@given(docs=DOCS, data=st.data(), bits=st.sampled_from([0.0, 16.0]))
@settings(max_examples=20)
def test_agrees_with_the_naive_twin_over_live_documents(docs, data, bits) -> None:
    gone = data.draw(st.lists(st.integers(0, 3), min_size=len(docs), max_size=len(docs)))
    parts = data.draw(st.lists(st.integers(0, len(docs)), max_size=4))
    index, twin = segmented(docs, parts, gone, context_bits=bits)
    patterns = patterns_of(docs)
    assert_agree(index, twin, patterns)
    index._core.forget()
    assert_agree(index, twin, patterns)


def test_spans_outlive_the_cache_and_pickling() -> None:
    docs = [[1, 2, 3], [1, 2, 4], [2, 3], [1, 2, 3]]
    index, _ = segmented(docs, [2], [0, 1, 0, 0])
    span = index.search([1, 2])
    again = pickle.loads(pickle.dumps(span))
    index._core.forget()
    assert again == span == index.search([1, 2])
    assert index.next_tokens(again)[0].tolist() == [3]
    assert span != index.search([2])


def test_more_states_than_the_cache_holds() -> None:
    size = 40_000
    offsets = np.arange(size + 1)
    tokens = np.arange(size)
    gone = np.arange(0, size, 10)
    negative = FMIndex.build_flat(tokens[gone], offsets[: len(gone) + 1], vocab_size=size)
    index = SegmentedIndex([FMIndex.build_flat(tokens, offsets, vocab_size=size)], [gone], [negative], [gone])
    lo, hi = index.extend_many(np.zeros(size, np.int64), np.full(size, index.n_rows), tokens)
    assert (hi - lo).tolist() == [int(t % 10 != 0) for t in range(size)]
    np.testing.assert_equal(index.documents_many(lo, hi)[1], np.arange(len(index)))


def test_spans_of_elsewhere_and_parts_are_refused() -> None:
    index, _ = segmented([[1, 2, 3], [1, 2, 4]], [1], [0, 0])
    span = index.search([1, 2])
    with pytest.raises(IndexQueryError, match="part of a pattern's 2 occurrences"):
        index.next_tokens(Span(span.lo, span.lo + 1))
    for wrong in (Span(span.lo, span.hi + 1), Span(span.lo + 1, span.hi + 1), Span(1 << 50, (1 << 50) + 1)):
        with pytest.raises(IndexQueryError, match="does not fit these segments"):
            index.documents(wrong)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    one, other = (FMIndex.build([[1, 2], [3]], vocab_size=size) for size in (5, 6))
    with pytest.raises(IndexQueryError, match="vocabulary of 6"):
        SegmentedIndex([one, other])
    with pytest.raises(IndexQueryError, match="1 documents are deleted but the negative segments hold 0"):
        SegmentedIndex([one], [np.array([1])])
    with pytest.raises(IndexQueryError, match="ascending numbers of its documents"):
        SegmentedIndex([one], [np.array([2])])
    with pytest.raises(IndexQueryError, match="needs a vocab_size"):
        SegmentedIndex([])


def test_without_segments_nothing_is_found() -> None:
    index = SegmentedIndex([], vocab_size=7)
    assert (len(index), index.root, index.search([1]).count) == (0, Span(0, 0), 0)
    assert index.next_tokens(index.root)[0].tolist() == []
    mask = np.ones((1, 1), np.uint32)
    index.fill_mask([0], [0], mask)
    assert mask.tolist() == [[0]]
