"""Exact search agrees with a sort of all inner products, with ties, masks and more blocks than one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.errors import DataError
from gemkr.vector_index import exact
from gemkr.vector_index.exact import ExactIndex


def slowly(
    documents: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None
) -> tuple[list, list]:
    """The twin: each query's documents sorted by (score, smaller number), one by one."""
    scores, docs = [], []
    for query in queries.tolist():
        pairs = []
        for number, document in enumerate(documents.tolist()):
            if allowed is None or allowed[number]:
                pairs.append((-sum(a * b for a, b in zip(query, document, strict=True)), number))
        best = sorted(pairs)[:k]
        missing = k - len(best)
        scores.append([-score for score, _ in best] + [-np.inf] * missing)
        docs.append([number for _, number in best] + [-1] * missing)
    return scores, docs


@given(st.data())
def test_search_agrees_with_sorting(data: st.DataObject) -> None:
    """Small whole numbers: products are exact, and many tie."""
    n, q, width = (data.draw(st.integers(*bounds)) for bounds in ((1, 40), (0, 4), (1, 3)))
    k = data.draw(st.integers(0, n + 3))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    documents = random.integers(-2, 3, (n, width)).astype(
        data.draw(st.sampled_from([np.float16, np.float32]))
    )
    queries = random.integers(-2, 3, (q, width)).astype(np.float32)
    allowed = random.random(n) < 0.5 if data.draw(st.booleans()) else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BLOCK", data.draw(st.integers(1, 50)))
        scores, docs = ExactIndex(documents).search(queries, k, allowed)
    assert (scores.dtype, docs.dtype) == (np.float32, np.int64)
    assert scores.shape == docs.shape == (q, k)
    assert (scores.tolist(), docs.tolist()) == slowly(documents, queries, k, allowed)


def test_allowed_is_the_whole_ranking_filtered() -> None:
    """To the last bit: the same products, others left out."""
    random = np.random.default_rng(0)
    documents = random.standard_normal((500, 48)).astype(np.float16)
    queries = random.standard_normal((7, 48)).astype(np.float32)
    allowed = random.random(500) < 0.3
    index = ExactIndex(documents)
    scores, docs = index.search(queries, 500)
    some_scores, some_docs = index.search(queries, int(allowed.sum()), allowed)
    for row in range(len(queries)):
        kept = allowed[docs[row]]
        assert np.array_equal(docs[row][kept], some_docs[row])
        assert np.array_equal(scores[row][kept], some_scores[row])


def test_vectors_that_do_not_belong_are_refused() -> None:
    index = ExactIndex(np.ones((3, 4), np.float32))
    assert (len(index), index.width) == (3, 4)
    with pytest.raises(DataError, match="holds vectors of 4 numbers"):
        index.search(np.ones((1, 5), np.float32), 1)
    with pytest.raises(DataError, match="not finite"):
        index.search(np.full((1, 4), np.nan, np.float32), 1)
    with pytest.raises(DataError, match="shape"):
        ExactIndex(np.ones(4, np.float32))


def test_equal_vectors_tie_whatever_is_beside_them() -> None:
    """Products of whole matrices are rounded by place: a document's twin was above it, and a pool in another order, in batches."""
    rng = np.random.default_rng(0)
    once = rng.standard_normal((1500, 384)).astype(np.float32)
    index, queries = (
        ExactIndex(np.concatenate([once, once])),
        rng.standard_normal((64, 384)).astype(np.float32),
    )
    scores, docs = index.search(queries, 20)
    assert (scores[:, ::2] == scores[:, 1::2]).all()
    assert (docs[:, ::2] + 1500 == docs[:, 1::2]).all()
    for share in (2, 20):
        allowed = np.tile(rng.integers(share, size=1500) == 0, 2)
        whole = [[doc for doc in row if allowed[doc]][:20] for row in index.search(queries, 3000)[1]]
        alone = [index.search(query[None], 20, allowed)[1][0].tolist() for query in queries]
        assert whole == alone == index.search(queries, 20, allowed)[1].tolist()
