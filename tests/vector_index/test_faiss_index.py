"""Approximate indexes: exact where they look at everything, near it where they do not, and strict about pools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.errors import DataError
from gemkr.vector_index import faiss_index
from gemkr.vector_index.exact import ExactIndex
from gemkr.vector_index.faiss_index import IVFIndex, PQIndex
from gemkr.vector_index.vectors import Vectors, as_stored

WIDTH, N = 24, 1500
INDEXES: dict[str, IVFIndex | PQIndex] = {}
"""Built once for all examples."""
KINDS = {"ivf": (IVFIndex, {"lists": 20}), "pq": (PQIndex, {"rescore": 20})}


def material(dtype: str = "float16") -> tuple[Vectors, np.ndarray]:
    """Documents around sixty centres, and queries near some of them."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((60, WIDTH))
    documents = centres[random.integers(0, 60, N)] + 0.5 * random.standard_normal((N, WIDTH))
    queries = documents[random.integers(0, N, 30)] + 0.1 * random.standard_normal((30, WIDTH))
    return as_stored(documents.astype(np.float32), dtype), queries.astype(np.float32)


def build(kind: str, vectors: Vectors, **changes: int) -> IVFIndex | PQIndex:
    cls, values = KINDS[kind]
    return cls.from_config(cls.Config(**values | changes), vectors)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(
        np.mean(
            [len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
        )
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_documents_found_have_exact_scores(kind: str, dtype: str) -> None:
    vectors, queries = material(dtype)
    index = build(kind, vectors, probes=4)
    assert (len(index), index.width) == (N, WIDTH)
    scores, docs = index.search(queries, 20)
    exact_scores, exact_docs = ExactIndex(vectors).search(queries, N)
    assert (scores.dtype, docs.dtype, docs.shape) == (np.float32, np.int64, (30, 20))
    assert (np.diff(scores) <= 0).all()
    assert recall(docs, exact_docs[:, :20]) > 0.8
    for row in range(30):
        place = {doc: i for i, doc in enumerate(exact_docs[row].tolist())}
        assert len(set(docs[row].tolist())) == 20
        expected = exact_scores[row][[place[doc] for doc in docs[row].tolist()]]
        np.testing.assert_allclose(scores[row], expected, rtol=1e-5)


@pytest.mark.parametrize(("kind", "changes"), [("ivf", {"probes": 20}), ("pq", {"rescore": N})])
def test_looking_at_everything_is_exact(kind: str, changes: dict) -> None:
    vectors, queries = material()
    scores, docs = build(kind, vectors, **changes).search(queries, 10)
    exact_scores, exact_docs = ExactIndex(vectors).search(queries, 10)
    assert np.array_equal(docs, exact_docs)
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-5)


@settings(max_examples=40)
@given(st.data())
def test_a_pool_holds_only_what_is_allowed_and_is_never_short(data: st.DataObject) -> None:
    """Small pools, large ones (with a patched limit) and k of any size; small ones exactly."""
    vectors, queries = material()
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    if kind not in INDEXES:
        INDEXES[kind] = build(kind, vectors, probes=1)
    index = INDEXES[kind]
    share = data.draw(st.sampled_from([0.0, 0.002, 0.05, 0.5, 1.0]))
    allowed = np.random.default_rng(data.draw(st.integers(0, 99))).random(N) < share
    k = data.draw(st.sampled_from([0, 1, 10, 40]))
    with pytest.MonkeyPatch.context() as patch:
        limit = data.draw(st.sampled_from([0, 10_000]))
        patch.setattr(faiss_index, "SMALL_POOL", limit)
        scores, docs = index.search(queries, k, allowed)
    wanted = min(k, int(allowed.sum()))
    assert scores.shape == docs.shape == (30, k)
    assert (docs[:, wanted:] == -1).all()
    assert (scores[:, wanted:] == -np.inf).all()
    assert allowed[docs[:, :wanted]].all()
    if limit:
        assert np.array_equal(docs, ExactIndex(vectors).search(queries, k, allowed)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_in_its_folder(tmp_path: Path, kind: str) -> None:
    vectors, queries = material()
    cls, values = KINDS[kind]
    config = cls.Config(**values)
    with pytest.raises(DataError, match=f"have no {kind} index of these settings; make it with gemkr embed"):
        cls.from_config(config, vectors, tmp_path)
    assert cls.prepare(config, vectors, tmp_path)
    assert not cls.prepare(config, vectors, tmp_path)
    (path,) = tmp_path.iterdir()
    stored = cls.from_config(cls.Config(**values | {"probes": 7}), vectors, tmp_path).search(queries, 9)
    assert all(
        np.array_equal(a, b) for a, b in zip(stored, build(kind, vectors, probes=7).search(queries, 9))
    )
    with pytest.raises(DataError, match="are 1499 of 24; build it anew"):
        cls(cls.build(config, vectors), Vectors(vectors.values[1:]), probes=1, candidates=1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"cannot be read .*; delete it and make it"):
        cls.from_config(config, vectors, tmp_path)
    with pytest.raises(DataError, match=r"cannot be written .*; make room"):
        cls.prepare(config, vectors, tmp_path / "absent")


def test_settings_that_do_not_fit() -> None:
    vectors, queries = material()
    with pytest.raises(DataError, match=r"index.lists is 100, and 1500 documents allow for 38 \(39 a list\)"):
        build("ivf", vectors, lists=100)
    with pytest.raises(DataError, match=r"24 numbers do not fall into groups of 5; set index.group"):
        build("pq", vectors, group=5)
    with pytest.raises(
        DataError, match=r"15 documents are too few for approximate search, .* use index: exact"
    ):
        IVFIndex.from_config(IVFIndex.Config(), Vectors(vectors.values[:15]))
    assert build("ivf", vectors, lists=None).index.nlist == 38
    assert IVFIndex.from_config(IVFIndex.Config(), Vectors(vectors.values[:400])).index.nlist == 10
    with pytest.raises(DataError, match="holds vectors of 24 numbers"):
        build("ivf", vectors).search(queries[:, 1:], 1)
