"""An index of segments and the naive twin over its live documents, compared call for call."""

from __future__ import annotations

import numpy as np

from gemkr.fm_index import FMIndex, SegmentedIndex, Span
from gemkr.fm_index.reference import ReferenceIndex
from gemkr.interfaces import TokenIndex

VOCAB = 40


def segmented(
    docs: list[list[int]], parts: list[int], gone: list[int], vocab: int = VOCAB, **options
) -> tuple[SegmentedIndex, ReferenceIndex]:
    """The index of docs in segments that end at `parts`, where document d is deleted by the negative segment gone[d] (0: live)."""
    ends = sorted({min(p, len(docs)) for p in parts} | {len(docs)})
    positives, deleted = [], []
    for start, end in zip([0, *ends], ends):
        ids = [f"d{d}" for d in range(start, end)]
        positives.append(
            FMIndex.build(docs[start:end], ids, vocab_size=vocab, sample_rate=2, threads=1, **options)
        )
        deleted.append(np.array([d - start for d in range(start, end) if gone[d]], np.int64))
    groups = [[d for d in range(len(docs)) if gone[d] == g] for g in sorted(set(gone) - {0})]
    negatives = [FMIndex.build([docs[d] for d in group], vocab_size=vocab, threads=1) for group in groups]
    numbers = [np.array(group, np.int64) for group in groups]
    live = [d for d in range(len(docs)) if not gone[d]]
    twin = ReferenceIndex.build([docs[d] for d in live], [f"d{d}" for d in live], vocab_size=vocab)
    return SegmentedIndex(positives, deleted, negatives, numbers, vocab_size=vocab), twin


def patterns_of(docs: list[list[int]], most: int = 40) -> list[list[int]]:
    """The empty pattern, substrings of deleted and of live documents, and one that is nowhere."""
    found = {tuple(doc[i : i + n]) for doc in docs for i in range(len(doc)) for n in (1, 2, 3, 7)}
    return [[], *map(list, sorted(found)[:most]), [39, 0, 39]]


def assert_agree(index: TokenIndex, twin: ReferenceIndex, patterns: list[list[int]]) -> int:
    """Compare every method for every pattern; returns the number of comparisons."""
    assert (len(index), index.n_tokens, index.n_rows) == (len(twin), twin.n_tokens, twin.n_rows)
    assert list(index.doc_ids) == twin.doc_ids
    assert [index.doc_ids[d] for d in range(len(twin))] == twin.doc_ids
    for doc in range(len(twin)):
        assert index.extract(doc).tolist() == twin.extract(doc).tolist()
        assert index.extract(doc, 1, 3).tolist() == twin.extract(doc, 1, 3).tolist()
        assert index.doc_length(doc) == twin.doc_length(doc)
    backwards = np.arange(len(twin), dtype=np.int64)[::-1]
    for docs in (backwards, np.concatenate([backwards[1:], backwards]), backwards[:0]):
        for got, want in zip(index.extract_many(docs), twin.extract_many(docs), strict=True):
            assert got.dtype == np.int64
            np.testing.assert_array_equal(got, want)
    ours, theirs = [index.search(p) for p in patterns], [twin.search(p) for p in patterns]
    for span, expected in zip(ours, theirs):
        assert (span.count, span.length) == (expected.count, expected.length)
        for got, want in zip(index.next_tokens(span), twin.next_tokens(expected), strict=True):
            assert got.tolist() == want.tolist()
        assert index.count_ends(span) == twin.count_ends(expected)
        assert index.only_document(span) == twin.only_document(expected)
        for limit in (None, 0, 2):
            for got, want in zip(index.documents(span, limit), twin.documents(expected, limit), strict=True):
                assert got.tolist() == want.tolist()
            assert index.locate(span, limit).tolist() == twin.locate(expected, limit).tolist()
        for first in {1, 2, span.count // 2, span.count - 1} & set(range(span.count)):
            part, same = Span(span.lo, span.lo + first), Span(expected.lo, expected.lo + first)
            for got, want in zip(index.documents(part), twin.documents(same), strict=True):
                assert got.tolist() == want.tolist()
        for token in [*range(5), index.vocab_size - 1, index.vocab_size, -1, 1 << 80]:
            assert index.extend(span, token).count == twin.extend(expected, token).count
    a, b = [np.array(list(zip(*spans)), np.int64) for spans in (ours, theirs)]
    step = np.arange(len(patterns)) % 5
    assert (
        np.diff(index.extend_many(*a, step), axis=0).tolist()
        == np.diff(twin.extend_many(*b, step), axis=0).tolist()
    )
    np.testing.assert_equal(index.next_tokens_many(*a), twin.next_tokens_many(*b))
    np.testing.assert_equal(index.documents_many(*a, 3), twin.documents_many(*b, 3))
    masks = [np.full((len(patterns), index.mask_words), 0xFFFFFFFF, np.uint32) for _ in range(2)]
    index.fill_mask(*a, masks[0])
    twin.fill_mask(*b, masks[1])
    np.testing.assert_array_equal(masks[0], masks[1])
    return 30 * len(patterns)
