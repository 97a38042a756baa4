"""Dense retrieval and what is built over it, through configurations: vectors in memory and in a folder, reranking, pools."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import save_tiny_encoder

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.data.documents import DocumentStore
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.evaluate import evaluate
from gemkr.rerankers.pointwise import PointwiseReranker
from gemkr.retrievers import embedding
from gemkr.retrievers.dense import DenseRetriever
from gemkr.scorers.bm25 import BM25
from gemkr.testing import ReversingReranker, WordEncoder, WordTokenEncoder, toy_corpus
from gemkr.types import Document, Hit, Query, Ranking

WORDS = "gemkr.testing:WordEncoder"
QUESTIONS = {
    "q0": ("Which is the capital of Japan?", "d2"),
    "q1": ("Which animal hunts at night and sleeps in the day?", "d10"),
    "q2": ("What is Peru known for?", "d7"),
    "q3": ("Who sleeps in the winter?", "d9"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A corpus of twelve passages, four questions with gold passages and pools, relevance, and pools."""
    rows = [{"id": d.doc_id, "text": d.text} for d in toy_corpus()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [
        {
            "query_id": q,
            "question": text,
            "positives": [gold],
            "pool": "animals" if q in ("q1", "q3") else None,
        }
        for q, (text, gold) in QUESTIONS.items()
    ]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (tmp_path / "qrels.txt").write_text("".join(f"{q} 0 {gold} 1\n" for q, (_, gold) in QUESTIONS.items()))
    (tmp_path / "animals.txt").write_text("d8\nd9\nd10\nd11\n")
    return tmp_path


def configure(folder: Path, retrievers: dict, **settings: object) -> EvalConfig:
    files = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "qrels": "qrels.txt", "output": "runs"}
    values = {key: str(folder / name) for key, name in files.items()}
    return from_mapping(
        {**values, "retrievers": retrievers, "metrics": ["S@1"], **settings}, EvalConfig, "test"
    )


def rank(config: EvalConfig, name: str, k: int = 12, **settings: object) -> list[Ranking]:
    sources = config.sources()
    return list(sources.retriever(name).retrieve(sources.queries, k, **settings))


def test_a_dense_retriever_ranks_by_inner_products(folder: Path) -> None:
    config = configure(folder, {"words": {"kind": "dense", "encoder": WORDS, "batch_size": 3}})
    rankings = rank(config, "words")
    encoder = WordEncoder()
    documents = encoder.encode_documents(toy_corpus()).astype(np.float16).astype(np.float32)
    for ranking, query in zip(rankings, config.sources().queries, strict=True):
        scores = documents @ encoder.encode_queries([query])[0]
        assert [hit.doc_id for hit in ranking.hits] == [f"d{i}" for i in np.argsort(-scores, kind="stable")]
        np.testing.assert_allclose([hit.score for hit in ranking.hits], np.sort(scores)[::-1], atol=1e-5)
    assert evaluate(config).rows["words"].mean("S@1") == 1


def test_vectors_in_a_folder_give_the_same_ranking(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    section = {"kind": "dense", "encoder": {"kind": WORDS, "width": 32}}
    memory = rank(configure(folder, {"words": section}), "words")
    stored = configure(folder, {"words": {**section, "vectors": str(folder / "vectors")}})
    with pytest.raises(DataError, match="are not there; make them with gemkr embed CONFIG NAME"):
        rank(stored, "words")
    monkeypatch.setattr(embedding, "BLOCK", 5)
    encode = WordEncoder.encode_documents

    def interrupted(self: WordEncoder, documents: list[Document]) -> np.ndarray:
        if documents[0].doc_id == "d5":
            raise KeyboardInterrupt
        return encode(self, documents)

    monkeypatch.setattr(WordEncoder, "encode_documents", interrupted)
    with pytest.raises(KeyboardInterrupt):
        DenseRetriever.embed(stored.retrievers["words"].config, stored.sources(), progress=False)
    monkeypatch.setattr(WordEncoder, "encode_documents", encode)
    with pytest.raises(DataError, match="are not finished"):
        rank(stored, "words")
    (folder / "own.yaml").write_text(
        "corpus: corpus.jsonl\nretrievers:\n  bm25: {kind: bm25}\n  bare: {kind: dense, encoder: gemkr.testing:WordEncoder}\n"
        "  words: {kind: dense, encoder: {kind: gemkr.testing:WordEncoder, width: 32}, vectors: vectors}\n"
    )
    assert main(["embed", str(folder / "own.yaml"), "words"]) == 0
    assert "7 documents encoded" in (out := capsys.readouterr().out)
    assert "5 were there already" in out
    assert rank(stored, "words") == memory
    (folder / "vectors" / "vectors.npy").write_bytes(b"junk")
    with pytest.raises(
        DataError, match=r"cannot be read \(.*\); delete .*vectors, or set vectors to another"
    ):
        rank(stored, "words")
    assert main(["embed", str(folder / "own.yaml"), "words"]) == 1
    assert "cannot be read" in (error := capsys.readouterr().err)
    assert error.endswith("; delete it, or choose another folder\n")
    assert main(["embed", str(folder / "own.yaml"), "bm25"]) == 1
    assert "of the kind 'bm25'; gemkr embed needs a dense or late_interaction one" in capsys.readouterr().err
    assert main(["embed", str(folder / "own.yaml"), "bare"]) == 1
    assert "retrievers.bare.vectors is missing" in capsys.readouterr().err
    other = {
        "kind": "dense",
        "encoder": {"kind": WORDS, "width": 32, "seed": 1},
        "vectors": str(folder / "vectors"),
    }
    with pytest.raises(
        DataError,
        match=rf"another encoder, or with its texts read otherwise; delete {re.escape(str(folder))}/vectors, or set vectors to another "
        "folder, then make them with gemkr embed CONFIG NAME",
    ):
        rank(configure(folder, {"words": other}), "words")
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("Tokyo", "Kyoto"))
    with pytest.raises(
        DataError, match=r"made with another corpus; delete .*vectors, or set vectors to another"
    ):
        rank(stored, "words")
    shutil.rmtree(folder / "vectors")
    assert main(["embed", str(folder / "own.yaml"), "words"]) == 0
    assert rank(stored, "words") != memory


@pytest.mark.parametrize("index", ["exact", "ivf", {"kind": "pq", "group": 8, "rescore": 2}])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_indexes_and_dtypes_are_settings(
    folder: Path, capsys: pytest.CaptureFixture, index: object, dtype: str
) -> None:
    """Vectors in memory and in a folder rank alike; with twenty documents and one list an index sees all of them."""
    more = [{"id": f"e{i}", "text": f"number {i} is one of many"} for i in range(8)]
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in more))
    section = {"kind": "dense", "encoder": {"kind": WORDS, "width": 32}, "dtype": dtype, "index": index}
    exact = rank(
        configure(folder, {"words": {**section, "index": "exact", "dtype": "float32"}}), "words", k=3
    )
    memory = rank(configure(folder, {"words": section}), "words", k=3)
    stored = configure(folder, {"words": {**section, "vectors": str(folder / "vectors")}})
    first = DenseRetriever.embed(stored.retrievers["words"].config, stored.sources(), progress=False)
    assert (first.encoded, first.there, first.index_built) == (20, 0, index != "exact")
    again = DenseRetriever.embed(stored.retrievers["words"].config, stored.sources(), progress=False)
    assert (again.encoded, again.there, again.index_built) == (0, 20, False)
    assert rank(stored, "words", k=3) == memory
    assert [r.hits[0].doc_id for r in memory] == [r.hits[0].doc_id for r in exact]
    pool = rank(stored, "words", k=20, allowed={"d8", "d9", "e1"})
    assert [sorted(h.doc_id for h in r.hits) for r in pool] == [["d8", "d9", "e1"]] * 4


def test_an_index_that_is_missing_or_unknown(folder: Path) -> None:
    section = {"kind": "dense", "encoder": WORDS, "vectors": str(folder / "vectors")}
    plain = configure(folder, {"words": section})
    DenseRetriever.embed(plain.retrievers["words"].config, plain.sources(), progress=False)
    with pytest.raises(DataError, match="12 documents are too few for approximate search"):
        rank(configure(folder, {"words": {**section, "index": "ivf"}}), "words")
    with pytest.raises(
        ConfigError, match="the kind 'tree' of vector index is unknown; known are exact, ivf, pq"
    ):
        configure(folder, {"words": {**section, "index": "tree"}})
    with pytest.raises(
        ConfigError, match="dtype 'float8' is unknown; vectors are kept as float32, float16, int8"
    ):
        configure(folder, {"words": {**section, "dtype": "float8"}})
    with pytest.raises(DataError, match=r"another dtype .float16, not int8.; delete .* then make them"):
        rank(configure(folder, {"words": {**section, "dtype": "int8"}}), "words")


def test_a_folder_of_sentence_transformers_is_a_retriever(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    words = sorted({w.strip(".,?") for d in toy_corpus() for w in d.text.lower().split()})
    save_tiny_encoder(folder / "encoder", words)
    (folder / "own.yaml").write_text(
        "corpus: corpus.jsonl\nqueries: queries.jsonl\nqrels: qrels.txt\noutput: runs\n"
        "retrievers:\n  mini: {kind: dense, encoder: {kind: sentence_transformers, folder: encoder}}\n  bm25: {kind: bm25}\n"
        "  both: {kind: fusion, of: [mini, bm25]}\nevaluate: [both, mini, bm25]\n"
    )
    assert main(["eval", str(folder / "own.yaml")]) == 0
    out = capsys.readouterr().out
    assert "both - mini" in out
    assert (folder / "runs" / "mini" / "run.trec").read_text().count("\n") == 4 * 10
    assert main(["ask", str(folder / "own.yaml"), "capital of Japan", "--retriever", "mini", "-k", "2"]) == 0
    assert "2. d" in capsys.readouterr().out


def test_reranking_orders_the_first_hits_anew(folder: Path) -> None:
    config = configure(
        folder,
        {
            "words": {"kind": "dense", "encoder": WORDS},
            "turned": {
                "kind": "reranked",
                "of": "words",
                "depth": 3,
                "reranker": "gemkr.testing:ReversingReranker",
            },
            "again": {
                "kind": "reranked",
                "of": "turned",
                "depth": 3,
                "reranker": {"kind": "pointwise", "scorer": "bm25"},
            },
        },
    )
    words, turned, again = (rank(config, name) for name in ("words", "turned", "again"))
    bm25 = BM25(toy_corpus())
    for one, other, last, query in zip(words, turned, again, config.sources().queries, strict=True):
        assert [h.doc_id for h in other.hits] == [h.doc_id for h in one.hits[:3]][::-1]
        scores = bm25.score(query, np.array([int(h.doc_id[1:]) for h in other.hits]))
        assert [h.doc_id for h in last.hits] == [
            other.hits[i].doc_id for i in np.argsort(-scores, kind="stable")
        ]
    assert [len(r.hits) for r in rank(config, "turned", k=2)] == [2] * 4
    assert evaluate(config).tests.keys() == {"turned", "again"}


def test_a_pointwise_reranker_mixes_both_scores() -> None:
    class Fixed:
        def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
            return np.array([0.0, 10.0, 5.0], np.float32)[docs]

    documents = DocumentStore([Document(name, "text") for name in "abc"])
    clues = Ranking("q", (Hit("a", 3.0), Hit("b", 1.0), Hit("c", 2.0)))
    only = PointwiseReranker(Fixed(), documents).rerank(Query("q"), clues)
    assert [(hit.doc_id, hit.score) for hit in only.hits] == [("b", 10.0), ("c", 5.0), ("a", 0.0)]
    mixed = PointwiseReranker(Fixed(), documents, retrieval_weight=0.75).rerank(Query("q"), clues)
    assert [(hit.doc_id, hit.score) for hit in mixed.hits] == [("a", 0.75), ("c", 0.5), ("b", 0.25)]
    assert PointwiseReranker(Fixed(), documents).rerank(Query("q"), Ranking("q", ())).hits == ()
    plain = PointwiseReranker(Fixed(), documents, retrieval_weight=0.75, scaled=False).rerank(
        Query("q"), clues
    )
    assert [(hit.doc_id, hit.score) for hit in plain.hits] == [("b", 3.25), ("c", 2.75), ("a", 2.25)]


KINDS = {
    "bm25": {"kind": "bm25"},
    "words": {"kind": "dense", "encoder": WORDS},
    "both": {"kind": "fusion", "of": ["bm25", "words"]},
    "turned": {"kind": "reranked", "of": "words", "reranker": "gemkr.testing:ReversingReranker"},
}


@pytest.mark.parametrize("name", ["bm25", "words"])
def test_a_pool_is_the_whole_corpus_filtered(folder: Path, name: str) -> None:
    config = configure(folder, KINDS)
    allowed = {"d8", "d9", "d10", "d11"}
    for whole, some in zip(rank(config, name), rank(config, name, allowed=allowed), strict=True):
        assert some.hits == tuple(hit for hit in whole.hits if hit.doc_id in allowed)


@pytest.mark.parametrize("name", KINDS)
def test_queries_with_a_pool_are_answered_from_it(folder: Path, name: str) -> None:
    config = configure(
        folder, {name: KINDS[name], **KINDS}, pools={"animals": str(folder / "animals.txt")}, evaluate=[name]
    )
    result = evaluate(config).results[name]
    assert list(result.run) == ["q0", "q1", "q2", "q3"]
    animals = {"d8", "d9", "d10", "d11"}
    for query_id, hits in result.run.items():
        assert hits
        assert ({hit.doc_id for hit in hits} <= animals) == (query_id in ("q1", "q3"))


def test_pools_that_cannot_be_used(folder: Path) -> None:
    lines = (folder / "animals.txt").read_text()
    with pytest.raises(
        ConfigError, match="'q1' is of the pool 'animals', which is not among pools; there are birds"
    ):
        evaluate(configure(folder, KINDS, pools={"birds": str(folder / "animals.txt")}))
    (folder / "animals.txt").write_text(lines + "zebra\n")
    with pytest.raises(DataError, match=r"animals.txt:5: the pool 'animals' names the document 'zebra'"):
        evaluate(configure(folder, KINDS, pools={"animals": str(folder / "animals.txt")}))
    (folder / "animals.txt").write_text("\n")
    with pytest.raises(DataError, match="the pool 'animals' is empty"):
        evaluate(configure(folder, KINDS, pools={"animals": str(folder / "animals.txt")}))


def test_doubles_stand_for_their_protocols() -> None:
    documents = [
        Document("a", "tea and coffee"),
        Document("b", "tea", image="photo"),
        Document("c", image="photo"),
    ]
    encoder, tokens = WordEncoder(16), WordTokenEncoder(16)
    vectors = encoder.encode_documents(documents)
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    asked = encoder.encode_queries([Query("q", image="photo"), Query("r", "tea", instruction="photo")])
    np.testing.assert_allclose(asked[0], vectors[2], atol=1e-6)
    np.testing.assert_allclose(asked[1], vectors[1], atol=1e-6)
    found = tokens.encode_documents(documents)
    assert found.offsets.tolist() == [0, 3, 5, 6]
    assert (found.values.dtype, found.values.shape) == (np.float16, (6, 16))
    query = tokens.encode_queries([Query("q", "Tea?")])
    best = (query.values.astype(np.float32) @ found.values.T).max(axis=0)
    assert np.flatnonzero(best > 0.99).tolist() == [0, 3]
    ranking = ReversingReranker().rerank(Query("q"), Ranking("q", (Hit("a", 2.0), Hit("b", 1.0))))
    assert [(hit.doc_id, hit.score) for hit in ranking.hits] == [("b", -1.0), ("a", -2.0)]
