"""Exact late interaction agrees with a loop over queries, vectors, documents and tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from token_twins import drawn, maxsim

from gemkr.errors import DataError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index import _maxsim, token_exact
from gemkr.vector_index import maxsim as kernels
from gemkr.vector_index.maxsim import joined_tokens, picked, scores_of
from gemkr.vector_index.token_exact import ExactTokenIndex


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 8, 16, 31, 40]), st.booleans())
def test_search_agrees_with_a_loop(seed: int, width: int, filtered: bool) -> None:
    """Any widths and lengths, documents without a token, documents that may not count, ties."""
    random = np.random.default_rng(seed)
    queries = drawn(random, random.integers(1, 45, 3).tolist(), width, np.float32)
    tokens = drawn(random, random.integers(0, 70, 9).tolist(), width)
    tokens = joined_tokens([tokens, picked(tokens, np.array([2, 5]))], width)
    allowed = random.random(11) < 0.6 if filtered else None
    expected = maxsim(queries, tokens)
    np.testing.assert_allclose(scores_of(queries, tokens, np.arange(11)), expected, atol=1e-4)
    scores, docs = ExactTokenIndex(tokens).search(queries, 4, allowed)
    if allowed is not None:
        expected[:, ~allowed] = -np.inf
    for row in range(3):
        order = sorted(range(11), key=lambda doc: (-round(expected[row, doc], 3), doc))
        best = [doc for doc in order if expected[row, doc] > -np.inf][:4]
        assert [doc for doc in docs[row] if doc >= 0] == best or np.allclose(
            expected[row, docs[row][docs[row] >= 0]], expected[row, best], atol=2e-3
        )
        assert (scores[row, len(best) :] == -np.inf).all()
        assert (docs[row, len(best) :] == -1).all()


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    queries, tokens = drawn(random, [5, 32], 16, np.float32), drawn(random, [7] * 200, 16)
    scores, docs = ExactTokenIndex(tokens).search(queries, 10)
    monkeypatch.setattr(token_exact, "BLOCK", 33)
    monkeypatch.setattr(kernels, "CHUNK", 5)
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        again = ExactTokenIndex(tokens).search(queries, 10)
        assert np.array_equal(again[0], scores)
        assert np.array_equal(again[1], docs)


def test_every_finite_float16_is_widened_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = bits.view(np.float16)
    values = values[np.isfinite(values)].reshape(-1, 1)
    tokens = TokenVectors(values, np.arange(len(values) + 1))
    one = TokenVectors(np.ones((1, 1), np.float32), np.array([0, 1]))
    found = scores_of(one, tokens, np.arange(len(values)))[0]
    assert np.array_equal(found, values[:, 0].astype(np.float32))


def test_queries_that_cannot_be_compared() -> None:
    random = np.random.default_rng(2)
    index = ExactTokenIndex(drawn(random, [3, 4], 8))
    with pytest.raises(DataError, match=r"query vectors have the shape \(2, 9\), the documents' have 8"):
        index.search(drawn(random, [2], 9, np.float32), 1)
    with pytest.raises(DataError, match="a query has no vector left to score; give it a question"):
        index.search(drawn(random, [2, 0], 8, np.float32), 1)
    broken = drawn(random, [2], 8, np.float32)
    broken.values[1, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        index.search(broken, 1)


def test_kernels_refuse_what_does_not_fit() -> None:
    bits = np.zeros((5, 2), np.uint16)
    offsets, docs = np.array([0, 2, 5]), np.array([0, 1])
    vectors, bounds = np.ones((3, 2), np.float32), np.array([0, 3])
    assert _maxsim.stored(bits, offsets, docs, vectors, bounds).tolist() == [[0.0, 0.0]]
    for change, message in (
        ({"docs": np.array([2])}, "there is no document 2"),
        ({"docs": np.array([-1])}, "there is no document -1"),
        ({"offsets": np.array([0, 2, 6])}, "offsets of document 1 do not fit"),
        ({"vectors": np.ones((3, 3), np.float32)}, "query vectors must be"),
        ({"bounds": np.array([0, 4])}, "bounds must rise"),
    ):
        arguments = {
            "values": bits,
            "offsets": offsets,
            "docs": docs,
            "vectors": vectors,
            "bounds": bounds,
        } | change
        with pytest.raises(ValueError, match=message):
            _maxsim.stored(**arguments)
    with pytest.raises(TypeError):
        _maxsim.stored(bits.astype(np.float32), offsets, docs, vectors, bounds)
