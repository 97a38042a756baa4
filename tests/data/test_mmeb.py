"""MMEB's evaluation sets: a corpus, queries and a pool for each list of candidates; and pools in one file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.corpus import read_corpus
from gemkr.data.documents import DocumentStore
from gemkr.data.mmeb import candidate_id, read_mmeb
from gemkr.data.mmeb_training import read_mmeb_training
from gemkr.data.qrels import gold_qrels
from gemkr.data.queries import read_queries
from gemkr.data.trec import read_run
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.pools import pool_names, read_pools, require_pools
from gemkr.training.contrastive.data import PairDataset, make_pairs
from gemkr.types import Document, Query


def row(n: int, **changed: object) -> dict[str, object]:
    return {
        "qry_inst": "<|image_1|>\nAnswer the question.",
        "qry_text": f"what is {n}",
        "qry_img_path": f"A-OKVQA/{n}.jpg",
        "tgt_inst": "",
        "tgt_text": [f"answer {n}", "a dog", "50%"],
        "tgt_img_path": ["", "", ""],
        **changed,
    }


def put(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_round_trip(tmp_path: Path) -> None:
    path = put(tmp_path / "A-OKVQA.jsonl", [row(n) for n in range(10)])
    files = [str(tmp_path / name) for name in ("out.jsonl", "corpus.jsonl", "pools.jsonl")]
    assert main(["queries", str(path), "-o", files[0], "--corpus", files[1], "--pools", files[2]]) == 0
    documents = {document.doc_id: document for document in read_corpus(files[1])}
    assert len(documents) == 12
    assert documents["a%20dog"] == Document("a%20dog", "a dog")
    assert documents["50%25"].text == "50%"
    queries = list(read_queries(files[0]))
    assert queries == read_mmeb(path).queries
    assert queries[3] == Query(
        "A-OKVQA:3",
        "what is 3\n",
        "A-OKVQA/3.jpg",
        "Answer the question.",
        positives=("answer%203",),
        pool="A-OKVQA:3",
    )
    pools = read_pools({"any": files[2]}, documents)
    assert pools["A-OKVQA:7"] == {"answer%207", "a%20dog", "50%25"}
    assert pool_names({"any": files[2]}) == [query.query_id for query in queries]
    require_pools(queries, pool_names({"any": files[2]}))
    with pytest.raises(
        ConfigError, match=r"is of the pool 'A-OKVQA:0', which is not among pools; there are x$"
    ):
        require_pools(queries, ["x"])


def test_texts_end_as_vlm2vec_reads_them(tmp_path: Path) -> None:
    """Its vector is the state of the last token, a line break in the first form of the sets; where the second form keeps instructions
    apart, that line break is set. Ids are those that its predictions name."""
    first = {
        "qry_text": "<|image_1|>\nRepresent it: what is 0\n", "qry_img_path": "q.jpg",
        "tgt_text": ["<|image_1|>\nRepresent the given image.\n", "a dog"], "tgt_img_path": ["1.jpg", ""],
    }  # fmt: skip
    second = {
        "qry_inst": "<|image_1|>\nRepresent it:", "qry_text": "what is 0", "qry_img_path": "q.jpg",
        "tgt_inst": "<|image_1|>\nRepresent the given image.", "tgt_text": ["", "a boat"], "tgt_img_path": ["1.jpg", "2.jpg"],
    }  # fmt: skip
    found = read_mmeb(put(tmp_path / "first.jsonl", [first]))
    assert found.queries[0].question == "Represent it: what is 0\n"
    assert [document.text for document in found.documents.values()] == [
        "Represent the given image.\n",
        "a dog",
    ]
    path = put(tmp_path / "second.jsonl", [second, {**second, "qry_text": ""}])
    files = [str(tmp_path / name) for name in ("out.jsonl", "corpus.jsonl")]
    assert main(["queries", str(path), "-o", files[0], "--corpus", files[1]]) == 0
    asked = [(query.instruction, query.question) for query in read_queries(files[0])]
    assert asked == [("Represent it:", "what is 0\n"), ("Represent it:\n", "")]
    assert list(read_corpus(files[1])) == [
        Document("1.jpg", "Represent the given image.", image="1.jpg"),
        Document("2.jpg:a%20boat", "Represent the given image. a boat\n", image="2.jpg"),
    ]
    with pytest.raises(DataError, match=r":2: the candidate '1.jpg' has the 'tgt_inst' 'Other', and another"):
        read_mmeb(put(tmp_path / "m.jsonl", [second, {**second, "tgt_inst": "Other"}]))


def test_pictures_that_pictures_ask_for_end_without_a_line_break(tmp_path: Path) -> None:
    """As VLM2Vec reads its second form (image_i2i_vg), beside sets with texts, sets that ask by texts (image_t2i), and VisDial."""
    picture = {
        "qry_inst": "<|image_1|>\nSelect:", "qry_text": "the dog", "qry_img_path": "q.jpg",
        "tgt_inst": "<|image_1|>\nRepresent it.", "tgt_text": ["", ""], "tgt_img_path": ["1.jpg", "2.jpg"],
    }  # fmt: skip
    for changed, ends in (
        ({}, ["Represent it."] * 2),
        ({"tgt_text": ["a", "b"]}, ["Represent it. a\n", "Represent it. b\n"]),
        ({"qry_img_path": ""}, ["Represent it.\n"] * 2),
    ):
        found = read_mmeb(put(tmp_path / "MSCOCO.jsonl", [picture | changed]))
        assert [document.text for document in found.documents.values()] == ends
        assert found.queries[0].question == "the dog\n"
    found = read_mmeb(put(tmp_path / "VisDial.jsonl", [picture | {"qry_img_path": ""}]))
    assert found.queries[0].question == "the dog\n\n"


def test_equal_lists_are_one_pool_and_equal_captions_of_two_pictures_two_documents(tmp_path: Path) -> None:
    labels = ["cat", "dog", "cow"]
    rows = [row(n, tgt_text=labels[n:] + labels[:n], tgt_img_path=[]) for n in range(3)]
    found = read_mmeb(put(tmp_path / "N24.jsonl", rows))
    assert found.pools == {"N24:0": ("cat", "dog", "cow")}
    assert [query.pool for query in found.queries] == ["N24:0"] * 3
    assert [query.positives for query in found.queries] == [("cat",), ("dog",), ("cow",)]
    twins = row(0, tgt_text=["a street", "a street", ""], tgt_img_path=["1.jpg", "2.jpg", "1.jpg"])
    found = read_mmeb(put(tmp_path / "twins.jsonl", [twins]))
    assert list(found.documents.values()) == [
        Document("1.jpg:a%20street", "a street", image="1.jpg"),
        Document("2.jpg:a%20street", "a street", image="2.jpg"),
        Document("1.jpg", image="1.jpg"),
    ]


def test_ids_of_long_candidates() -> None:
    long = "word " * 100
    assert len(candidate_id(long, None)) <= 120
    assert candidate_id(long + "a", None) != candidate_id(long + "b", None)
    assert candidate_id("plain-id_7", None) == "plain-id_7"
    assert candidate_id("a\u00a0b", None) == "a%C2%A0b"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tgt_text": ["a", "b"]}, ":2: 'tgt_text' lists 2 candidates, 'tgt_img_path' 3"),
        ({"tgt_text": ["a", "", "b"]}, ":2: candidate 1 has neither a text nor a picture"),
        ({"tgt_text": [], "tgt_img_path": []}, ":2: the query has no candidates"),
        ({"tgt_text": "a"}, ":2: 'tgt_text' must be a list of strings"),
        ({"qry_text": "<|image_1|>", "qry_img_path": ""}, ":2: the query 'm:1' has neither a question nor"),
        ({"qid": "m:0"}, ":2: the query id 'm:0' already stands at .*:1"),
    ],
)
def test_broken_rows(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match="m.jsonl" + message):
        read_mmeb(put(tmp_path / "m.jsonl", [row(0), row(1, **changed)]))


def test_pools_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = put(
        tmp_path / "pools.jsonl", [{"pool": "a", "doc_ids": ["x", "y"]}, {"pool": "b", "doc_ids": ["z"]}]
    )
    with pytest.raises(DataError, match=r"pools.jsonl:2: the pool 'b' names the document 'z'"):
        read_pools({"p": str(path)}, ["x", "y"])
    put(path, [{"pool": "a", "doc_ids": ["x"]}, {"pool": "a", "doc_ids": ["y"]}])
    with pytest.raises(DataError, match=r"pools.jsonl:2: the pool 'a' is given twice"):
        read_pools({"p": str(path)}, ["x", "y"])
    put(path, [{"pool": "a", "doc_ids": []}])
    with pytest.raises(DataError, match=r"pools.jsonl:1: a pool needs a name"):
        read_pools({"p": str(path)}, ["x", "y"])
    queries = put(tmp_path / "q.jsonl", [{"query_id": "q", "question": "w"}])
    command = [
        "queries",
        str(queries),
        "-o",
        str(tmp_path / "o.jsonl"),
        "--corpus",
        str(tmp_path / "c.jsonl"),
    ]
    assert main(command) == 1
    assert "are for MMEB's sets" in capsys.readouterr().err


def test_training_rows_become_pairs_and_hard_negatives(tmp_path: Path) -> None:
    rows = [
        {
            "qry": f"<|image_1|>\nRepresent the given image: what is {n}\n" if n % 2 else f"Find picture {n}",
            "qry_image_path": f"images/A/{n}.jpg" if n % 2 else "",
            "pos_text": f"answer {n // 2}" if n % 2 else "<|image_1|>\nRepresent it.",
            "pos_image_path": "" if n % 2 else f"images/B/{n}.jpg",
            "neg_text": f"answer {n // 2 + 1}" if n % 4 == 1 else "",
            "neg_image_path": "" if n % 4 == 1 else None,
        }
        for n in range(10)
    ]
    path = put(tmp_path / "A-OKVQA.jsonl", rows)
    files = [str(tmp_path / name) for name in ("out.jsonl", "corpus.jsonl", "negatives.trec")]
    command = ["queries", str(path), "-o", files[0], "--corpus", files[1]]
    assert main([*command, "--negatives", files[2]]) == 0
    documents = {document.doc_id: document for document in read_corpus(files[1])}
    queries = list(read_queries(files[0]))
    assert queries[1] == Query(
        "A-OKVQA:1", "Represent the given image: what is 1\n", "images/A/1.jpg", positives=("answer%200",)
    )
    assert queries[2].positives == ("images/B/2.jpg:Represent%20it.",)
    assert documents[queries[2].positives[0]].image == "images/B/2.jpg"
    assert {q: [hit.doc_id for hit in hits] for q, hits in read_run(files[2]).items()} == {
        f"A-OKVQA:{n}": [f"answer%20{n // 2 + 1}"] for n in (1, 5, 9)
    }
    assert {doc_id for query in queries for doc_id in query.positives} <= documents.keys()
    assert main([*command, "--pools", str(tmp_path / "pools.jsonl")]) == 1
    put(path, [{**rows[0], "pos_image_path": "", "pos_text": ""}])
    with pytest.raises(DataError, match=r"A-OKVQA.jsonl:1: the gold candidate has neither a text nor a"):
        read_mmeb_training(path)


def test_sets_are_told_apart_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of two sets have one name as they are published; joined, training finds two data sets."""
    texts, documents = "", set()
    for name in ("A-OKVQA", "WebQA"):
        rows = [{"qry": f"ask {name} {n}", "pos_text": "yes" if n else name} for n in range(3)]
        path = put(tmp_path / "original-00000-of-00001.jsonl", rows)
        files = [str(tmp_path / "out.jsonl"), str(tmp_path / "corpus.jsonl")]
        assert main(["queries", str(path), "-o", files[0], "--corpus", files[1], "--name", name]) == 0
        texts += Path(files[0]).read_text()
        documents |= set(Path(files[1]).read_text().splitlines())
    (tmp_path / "queries.jsonl").write_text(texts)
    (tmp_path / "corpus.jsonl").write_text("\n".join(sorted(documents)))
    store = DocumentStore.open(tmp_path / "corpus.jsonl")
    queries = list(read_queries(tmp_path / "queries.jsonl"))
    assert [query.query_id for query in queries[2:4]] == ["A-OKVQA:2", "WebQA:0"]
    dataset = PairDataset(make_pairs(queries, store, None, None, "here"), store)
    assert dataset.data_sets().tolist() == [0, 0, 0, 1, 1, 1]
    command = ["queries", str(path), "-o", str(tmp_path / "out.jsonl"), "--name"]
    assert main([*command, "a b"]) == 1
    assert "the data set's id 'a b' holds white space" in capsys.readouterr().err
    command[1] = str(tmp_path / "queries.jsonl")
    assert main([*command, "a"]) == 1
    assert "--name, --corpus, --pools (evaluation)" in capsys.readouterr().err


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow one sentence; with it the rows of the file."""
    path = tmp_path / "test.parquet"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(
            DataError, match=r"test.parquet is a parquet file, which needs the package pyarrow; pip"
        ):
            read_mmeb(path)
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [row(n) for n in range(10)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    assert read_mmeb(path) == read_mmeb(put(tmp_path / "test.jsonl", rows))
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"test.parquet cannot be read after row 0"):
        read_mmeb(path)


def test_a_set_is_evaluated_over_its_lists(tmp_path: Path) -> None:
    """From the published file to a scored run: every hit is of the query's own list, and the gold one is first."""
    names = [
        "otter",
        "falcon",
        "badger",
        "salmon",
        "lizard",
        "donkey",
        "pigeon",
        "spider",
        "walrus",
        "beaver",
    ]
    rows = [
        row(n, qry_text=f"which {name}", qry_img_path="", tgt_text=[f"the {name}", names[n - 1], f"{name}s"])
        for n, name in enumerate(names)
    ]
    put(tmp_path / "set.jsonl", rows)
    files = [str(tmp_path / name) for name in ("q.jsonl", "c.jsonl", "p.jsonl")]
    command = [
        "queries",
        str(tmp_path / "set.jsonl"),
        "-o",
        files[0],
        "--corpus",
        files[1],
        "--pools",
        files[2],
    ]
    assert main(command) == 0
    (tmp_path / "eval.yaml").write_text(
        "queries: q.jsonl\ncorpus: c.jsonl\npools: {set: p.jsonl}\n"
        f"output: {tmp_path / 'out'}\nk: 3\nretrievers: {{bm25: {{kind: bm25}}}}\n"
    )
    assert main(["eval", str(tmp_path / "eval.yaml")]) == 0
    pools = read_pools({"set": files[2]}, [document.doc_id for document in read_corpus(files[1])])
    run = read_run(tmp_path / "out" / "bm25" / "run.trec")
    assert len(run) == 10
    assert all({hit.doc_id for hit in hits} <= pools[query_id] for query_id, hits in run.items())
    assert gold_qrels(read_queries(files[0])) == {
        query_id: {hits[0].doc_id: 1} for query_id, hits in run.items()
    }
