"""The dense document scorer: the dense retriever's vectors and order, inside another retriever's hits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gemkr.config.files import from_mapping
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.retrievers.dense import DenseRetriever
from gemkr.scorers.dense import DenseScorer
from gemkr.testing import WordEncoder, toy_corpus
from gemkr.types import Query
from gemkr.vector_index.vectors import Vectors

ENCODER = {"kind": "gemkr.testing:WordEncoder", "width": 32}


@pytest.fixture
def config(tmp_path: Path) -> EvalConfig:
    """A dense retriever, and BM25's hits in the order of the same vectors."""
    rows = [{"id": d.doc_id, "text": d.text} for d in toy_corpus()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text(json.dumps({"query_id": "1", "question": "the capital of Japan"}))
    vectors = {"encoder": ENCODER, "vectors": str(tmp_path / "vectors"), "dtype": "float32"}
    reranker = {"kind": "pointwise", "scorer": {"kind": "dense", **vectors}}
    retrievers = {
        "dense": {"kind": "dense", **vectors},
        "bm25": {"kind": "bm25"},
        "reordered": {"kind": "reranked", "of": "bm25", "depth": 12, "reranker": reranker},
    }
    files = {
        key: str(tmp_path / name) for key, name in (("corpus", "corpus.jsonl"), ("queries", "queries.jsonl"))
    }
    return from_mapping(
        {**files, "output": str(tmp_path / "runs"), "retrievers": retrievers}, EvalConfig, "test"
    )


def test_orders_hits_as_the_dense_retriever_does(config: EvalConfig) -> None:
    with pytest.raises(
        DataError, match="are not there; make them with gemkr embed, from a dense retriever's"
    ):
        config.sources().retriever("reordered")
    DenseRetriever.embed(config.retrievers["dense"].config, config.sources(), progress=False)
    sources = config.sources()
    (dense,), (bm25,), (reordered,) = (
        list(sources.retriever(name).retrieve(sources.queries, 12)) for name in ("dense", "bm25", "reordered")
    )
    scores = {hit.doc_id: hit.score for hit in dense.hits}
    assert [(h.doc_id, h.score) for h in reordered.hits] == sorted(
        ((h.doc_id, scores[h.doc_id]) for h in bm25.hits), key=lambda pair: -pair[1]
    )


def test_the_vectors_must_be_the_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        DataError, match="makes vectors of 32 numbers, the documents' have 8; use one encoder"
    ):
        DenseScorer(WordEncoder(width=32), Vectors(np.zeros((3, 8), np.float32)))
    found = DenseScorer(WordEncoder(width=32), Vectors(np.eye(32, dtype=np.float32)))
    query = Query("1", "the capital of Japan")
    asked, encode = [], found.encoder.encode_queries
    monkeypatch.setattr(
        found.encoder, "encode_queries", lambda queries: asked.append(queries) or encode(queries)
    )
    expected = WordEncoder(width=32).encode_queries([query])[0][[3, 1]]
    np.testing.assert_array_equal(found.score(query, np.array([3, 1])), expected)
    np.testing.assert_array_equal(found.score(query, np.array([1])), expected[1:])
    assert asked == [[query]], "a query that is scored again is not encoded again"


def test_queries_of_a_file_are_encoded_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, queries = WordEncoder(width=32), [Query(str(n), f"the river number {n}") for n in range(70)]
    expected = encoder.encode_queries(queries)
    found = DenseScorer(encoder, Vectors(np.eye(32, dtype=np.float32)), queries)
    sizes, encode = [], encoder.encode_queries
    monkeypatch.setattr(encoder, "encode_queries", lambda block: sizes.append(len(block)) or encode(block))
    scores = np.stack([found.score(query, np.arange(32)) for query in queries[40:]])
    np.testing.assert_array_equal(scores, expected[40:])
    assert sizes == [32, 6], "the block that a resumed run begins in, and the last"
