"""FMIndex on real text against plain numpy: the transform, the order of the rows, and random steps through them.

GEMKR_COMPARISONS (default 400,000) is the number of random backward steps compared.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gemkr.fm_index import FMIndex, Span

pytestmark = pytest.mark.shared

DOCUMENTS = 8000


class Corpus:
    """The index, and what it must answer, from one pass over all rows."""

    def __init__(self, folder: Path) -> None:
        from gemkr.data.corpus import read_corpus
        from gemkr.text.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(folder / "llama_tokenizer" / "tokenizer.model")
        documents = (d for d, _ in zip(read_corpus(folder / "corpora" / "wordnet.csv.gz"), range(DOCUMENTS)))
        self.docs = [np.array(tokenizer.encode(d.contents), np.int64) for d in documents]
        self.index = FMIndex.build(self.docs, tokenizer=tokenizer, sample_rate=16)
        self.starts = np.cumsum([0] + [len(d) + 1 for d in self.docs])
        self.tokens = np.concatenate([np.r_[d, -1] for d in self.docs])
        rows = np.arange(self.index.n_rows)
        self.doc, self.gap = self.index.locate_rows(rows)
        self.following = self.tokens[self.starts[self.doc] + self.gap]


@pytest.fixture(scope="module")
def corpus(shared_data: Path) -> Corpus:
    return Corpus(shared_data)


def test_rows_are_all_gaps_in_the_right_order(corpus: Corpus):
    places = corpus.starts[corpus.doc] + corpus.gap
    np.testing.assert_array_equal(np.sort(places), np.arange(len(places)))
    for row in np.random.default_rng(0).integers(0, len(places) - 1, 3000):
        before, after = (
            [*corpus.docs[corpus.doc[r]][: corpus.gap[r]][::-1].tolist(), -1, corpus.doc[r]]
            for r in (row, row + 1)
        )
        assert before < after


def test_single_rows_read_the_transform(corpus: Corpus):
    rows = np.arange(corpus.index.n_rows)
    for kernels in ("base", "best"):
        if kernels == "base":
            corpus.index._use_kernels("base")
        else:
            corpus.index._use_kernels(FMIndex.build([[1]]).info()["kernels"])
        indptr, tokens, counts = corpus.index.next_tokens_many(rows, rows + 1)
        np.testing.assert_array_equal(np.diff(indptr), corpus.following >= 0)
        np.testing.assert_array_equal(tokens, corpus.following[corpus.following >= 0])
        assert (counts == 1).all()


def test_random_steps_are_what_counting_says(corpus: Corpus):
    rng = np.random.default_rng(1)
    n = corpus.index.n_rows
    order = np.argsort(corpus.following, kind="stable")
    grouped = corpus.following[order]
    for _ in range(int(os.environ.get("GEMKR_COMPARISONS", "400000")) // 100_000):
        lo = rng.integers(0, n + 1, 100_000)
        hi = np.minimum(lo + rng.geometric(10.0 ** -rng.integers(1, 6, 100_000)), n)
        tokens = corpus.following[rng.integers(0, n, 100_000)]
        tokens = np.where(tokens < 0, rng.integers(0, 32_000, 100_000), tokens)
        got_lo, got_hi = corpus.index.extend_many(lo, hi, tokens)
        # rows of token t, in order: `order` where `grouped` is t; the separators come first
        first = np.searchsorted(grouped, tokens)
        keys = grouped * (n + 1) + order
        want_lo = np.searchsorted(keys, tokens * (n + 1) + lo)
        want_hi = np.searchsorted(keys, tokens * (n + 1) + hi)
        found = want_hi > want_lo
        assert (want_lo >= first).all()
        np.testing.assert_array_equal(got_lo, np.where(found, want_lo, 0))
        np.testing.assert_array_equal(got_hi, np.where(found, want_hi, 0))


def test_counts_continuations_and_places_hang_together(corpus: Corpus):
    index, rng = corpus.index, np.random.default_rng(2)
    spans, patterns = [], []
    for _ in range(1500):
        doc = corpus.docs[rng.integers(len(corpus.docs))]
        start = rng.integers(len(doc))
        patterns.append(doc[start : start + rng.integers(1, 9)])
        spans.append(index.search(patterns[-1]))
    lo = np.array([s.lo for s in spans])
    hi = np.array([s.hi for s in spans])
    indptr, tokens, _ = index.next_tokens_many(lo, hi)
    mask = np.empty((len(spans), index.mask_words), np.uint32)
    index.fill_mask(lo, hi, mask)
    bits = np.unpackbits(mask.view(np.uint8), axis=1, bitorder="little")
    for k, (span, pattern) in enumerate(zip(spans, patterns)):
        assert span.count >= 1
        following, counts = index.next_tokens(span)
        window = corpus.following[span.lo : span.hi]
        want, times = np.unique(window[window >= 0], return_counts=True)
        np.testing.assert_array_equal(following, want)
        np.testing.assert_array_equal(counts, times)
        assert counts.sum() + index.count_ends(span) == span.count
        np.testing.assert_array_equal(tokens[indptr[k] : indptr[k + 1]], want)
        np.testing.assert_array_equal(np.flatnonzero(bits[k]), want)
        if span.count > 2000:
            continue
        places = index.locate(span)
        assert len(places) == span.count
        doc, offset = places[rng.integers(len(places))]
        assert index.extract(doc, offset, offset + len(pattern)).tolist() == pattern.tolist()
        docs, occurrences = index.documents(span)
        assert occurrences.sum() == span.count
        assert set(docs.tolist()) == set(places[:, 0].tolist())


def test_saved_and_built_answer_alike(corpus: Corpus, tmp_path: Path):
    corpus.index.save(tmp_path / "x.fmi")
    loaded = FMIndex.load(tmp_path / "x.fmi", verify=True)
    assert loaded.info()["corpus_hash"] == corpus.index.info()["corpus_hash"]
    for doc in range(0, len(loaded), 997):
        np.testing.assert_array_equal(loaded.extract(doc), corpus.docs[doc])
    assert Span(*loaded.root) == corpus.index.root
