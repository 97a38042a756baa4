"""FMIndex against its naive twin: on every method, the same rows, tokens, counts, documents and offsets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.fm_index import FMIndex, Span
from gemkr.fm_index.build import finished
from gemkr.fm_index.reference import ReferenceIndex


def build(docs: list[list[int]], *, wide: bool = False, **options) -> FMIndex:
    """An index, on request with 64-bit rows whatever the size."""
    from gemkr.fm_index import _core

    builder = _core.Builder(options.pop("vocab_size", 0) or 0)
    for doc in docs:
        builder.add(doc)
    settings_ = {"sample_rate": 32, "document_array": False, "threads": 1, "context_bits": 3.5} | options
    return finished(FMIndex, builder, None, progress=None, wide_rows=wide, **settings_)


def spans_of(twin: ReferenceIndex, docs: list[list[int]]) -> list[Span]:
    """The root, some real patterns, and some rows that belong to no pattern."""
    n = twin.root.hi
    spans = [twin.root, Span(0, 0), Span(n, n), Span(n // 3, n - n // 3), Span(0, n // 2)]
    for doc in docs[:4]:
        for start in range(0, len(doc), max(1, len(doc) // 3)):
            for stop in (start + 1, start + 2, start + 4):
                spans.append(twin.search(doc[start:stop]))
    return spans


def assert_agree(index: FMIndex, twin: ReferenceIndex, docs: list[list[int]], unknown: int) -> None:
    assert len(index) == len(twin)
    assert index.n_tokens == twin.n_tokens
    assert index.vocab_size == twin.vocab_size
    assert index.root == twin.root
    assert list(index.doc_ids) == twin.doc_ids
    for doc, tokens in enumerate(docs):
        assert index.extract(doc).tolist() == tokens
        assert index.extract(doc, 1, 3).tolist() == tokens[1:3]
        assert index.doc_length(doc) == len(tokens)
        for start in range(min(len(tokens), 3)):
            pattern = tokens[start : start + 3]
            span = index.search(pattern)
            assert (span, span.length) == (twin.search(pattern), len(pattern))
    spans = spans_of(twin, docs)
    for span in spans:
        tokens, counts = index.next_tokens(span)
        expected = twin.next_tokens(span)
        assert (tokens.tolist(), counts.tolist()) == (expected[0].tolist(), expected[1].tolist())
        assert index.count_ends(span) == twin.count_ends(span)
        assert counts.sum() + index.count_ends(span) == span.count
        for limit in (None, 0, 2):
            for got, want in zip(index.documents(span, limit), twin.documents(span, limit), strict=True):
                assert got.tolist() == want.tolist()
            assert index.locate(span, limit).tolist() == twin.locate(span, limit).tolist()
        for token in [*expected[0][:3].tolist(), unknown]:
            assert index.extend(span, token) == twin.extend(span, token)
    lo = np.array([s.lo for s in spans], np.int64)
    hi = np.array([s.hi for s in spans], np.int64)
    step = np.array([(twin.next_tokens(s)[0].tolist() or [unknown])[-1] for s in spans], np.int64)
    for method, args in [
        ("extend_many", (lo, hi, step)),
        ("next_tokens_many", (lo, hi)),
        ("documents_many", (lo, hi, 2)),
        ("locate_rows", (np.arange(twin.root.hi),)),
        ("docs_of_rows", (np.arange(twin.root.hi),)),
        ("extract_many", (np.arange(len(twin))[::-1],)),
    ]:
        got, want = getattr(index, method)(*args), getattr(twin, method)(*args)
        np.testing.assert_equal(got, want, err_msg=method)
    masks = [np.full((len(lo), index.mask_words), 0xFFFFFFFF, np.uint32) for _ in range(2)]
    index.fill_mask(lo, hi, masks[0])
    twin.fill_mask(lo, hi, masks[1])
    np.testing.assert_array_equal(masks[0], masks[1])


small = st.lists(st.lists(st.integers(0, 5), max_size=12), max_size=8)
spread = st.lists(st.lists(st.sampled_from([0, 1, 77, 65535, 65536, 259_999]), max_size=9), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    docs=small | spread,
    wide=st.booleans(),
    document_array=st.booleans(),
    sample_rate=st.sampled_from([1, 2, 3, 32]),
    context_bits=st.sampled_from([0.0, 3.5, 64.0]),
    kernels=st.sampled_from(["base", "best"]),
)
def test_agrees_with_the_twin(docs, wide, document_array, sample_rate, context_bits, kernels):
    index = build(
        docs, wide=wide, document_array=document_array, sample_rate=sample_rate, context_bits=context_bits
    )
    if kernels == "base":
        index._use_kernels("base")
    assert_agree(index, ReferenceIndex.build(docs), docs, 300_000)


def zipf_docs(seed: int, documents: int, vocab: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [np.minimum(rng.zipf(1.3, rng.integers(0, 60)) - 1, vocab - 1).tolist() for _ in range(documents)]


@pytest.mark.parametrize(
    ("docs", "vocab_size"),
    [
        ([], None),
        ([], 10),
        ([[]], None),
        ([[], [], []], 7),
        ([[0]], None),
        ([[0], [0], []], 260_000),
        ([[259_999], [0, 259_999]], 260_000),
        ([[3] * 300], 5),
        ([[3] * 40, [3] * 41, [3] * 40], 5),
        ([[1, 2, 3, 4]] * 9, 32_000),
        ([list(range(700))], None),
        (zipf_docs(1, 60, 500), 500),
        (zipf_docs(2, 30, 70_000), 260_000),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value),
)
@pytest.mark.parametrize("context_bits", [0.0, 30.0])
def test_agrees_on_chosen_corpora(docs, vocab_size, context_bits):
    index = build(docs, vocab_size=vocab_size, context_bits=context_bits)
    assert_agree(index, ReferenceIndex.build(docs, vocab_size=vocab_size), docs, 259_998)


def test_build_flat_is_build():
    docs = zipf_docs(3, 40, 900)
    flat = np.array([t for doc in docs for t in doc], np.uint16)
    offsets = np.cumsum([0] + [len(doc) for doc in docs])
    ids = [f"doc-{k}" for k in range(len(docs))]
    one = FMIndex.build((np.array(doc, np.int32) for doc in docs), ids, vocab_size=1000)
    two = FMIndex.build_flat(flat, offsets, ids, vocab_size=1000)
    assert one.info() == two.info()
    assert list(two.doc_ids) == ids
    assert_agree(two, ReferenceIndex.build(docs, ids, vocab_size=1000), docs, 999)


def test_all_65536_narrow_tokens():
    docs = [list(range(65536)), [65535, 0, 65535]]
    index = FMIndex.build(docs)
    assert index.extract(1).tolist() == docs[1]
    assert index.search([65535]).count == 3
    assert index.next_tokens(index.search([65535]))[0].tolist() == [0]


def test_span_is_a_value():
    index = FMIndex.build([[1, 2, 1, 2]])
    span = index.search([1, 2])
    assert (span.count, span.length, bool(span)) == (2, 2, True)
    assert span == Span(span.lo, span.hi)
    assert hash(span) == hash(Span(*span))
    assert not index.search([9])
    assert index.search([9]) == Span(0, 0)
    with pytest.raises(AttributeError):
        span.lo = 3


def test_an_unknown_setting_is_named_before_documents_are_read() -> None:
    for build in (FMIndex.build, FMIndex.build_parts):
        with pytest.raises(TypeError, match="without the setting 'sampel_rate'"):
            build(iter(()), sampel_rate=4)
