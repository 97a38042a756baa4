"""Results of VLM2Vec, FLMR and UniRAG, scored as runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.queries import read_queries
from gemkr.data.runs import is_ranked, load_run
from gemkr.errors import DataError
from gemkr.types import Hit, Query


def test_flmr(tmp_path: Path) -> None:
    path = tmp_path / "OKVQA_index.json"
    report = {
        f"q{n}": {
            "Recall@5": 1,
            "retrieved_passage": [{"passage_id": f"p{n}", "score": 3}, {"passage_id": "x", "score": 9.5}],
        }
        for n in range(10)
    }
    path.write_text(json.dumps(report))
    assert load_run(path)["q4"] == [Hit("x", 9.5), Hit("p4", 3.0)]
    assert not is_ranked(path)
    path.write_text(json.dumps({"q": {"Recall@5": 1}}))
    with pytest.raises(DataError, match=r"OKVQA_index.json: question 'q' lists no 'retrieved_passage'"):
        load_run(path)


def test_vlm2vec_is_scored_as_its_authors_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The set, its queries and its predictions: hit@1 is S@1."""
    rows = [
        {"qry_text": f"what is {n}", "qry_img_path": "", "tgt_text": [f"right {n}", "wrong one", "wrong two"]}
        for n in range(10)
    ]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries, path = tmp_path / "queries.jsonl", tmp_path / "set_pred.jsonl"
    assert main(["queries", str(tmp_path / "set.jsonl"), "-o", str(queries)]) == 0
    ranked = [
        {
            "prediction": [f"right {n}", "wrong one", "wrong one"] if n < 7 else ["wrong two", f"right {n}"],
            "label": [f"right {n}"],
        }
        for n in range(10)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in ranked))
    run = load_run(path, [Query(f"set-{n}", "q") for n in range(10)])
    assert run["set-0"] == [Hit("right%200", -1.0), Hit("wrong%20one", -2.0)]
    capsys.readouterr()
    output = tmp_path / "scores.json"
    assert (
        main(
            ["score", str(path), "--queries", str(queries), "--metrics", "S@1", "S@2", "--json", str(output)]
        )
        == 0
    )
    (values,) = json.loads(output.read_text())["queries"].values()
    assert [values[f"set:{n}"]["S@1"] for n in range(10)] == [1.0] * 7 + [0.0] * 3
    assert {values[f"set:{n}"]["S@2"] for n in range(10)} == {1.0}
    with pytest.raises(DataError, match=r"set_pred.jsonl holds 10 rankings for 1 queries"):
        load_run(path, [Query("q", "q")])
    with pytest.raises(DataError, match=r"names documents without queries"):
        load_run(path)
    path.write_text('{"label": []}\n')
    with pytest.raises(DataError, match=r"set_pred.jsonl:1: the row has no list 'prediction'"):
        load_run(path, [Query("q", "q")])


@pytest.mark.parametrize(
    ("captions", "called"),
    [
        (["", ""], ["{}:", "{}:"]),  # image_i2i_vg: PATH:caption
        (['"a dog"', "a cow"], ["{}:a dog", "{}:a cow"]),
        (["a dog", "a cow"], ["{}", "{}"]),  # image_t2i: PATH alone
        (["", ""], ["{}", "{}"]),
    ],
)
def test_vlm2vec_names_pictures_in_two_ways(tmp_path: Path, captions: list[str], called: list[str]) -> None:
    """Its names of pictures, as its parsers of MMEB's sets make them, are found among the candidates."""
    rows = [
        {"qry_text": f"ask {n}", "tgt_inst": "<|image_1|>\nIt.", "tgt_text": captions, "tgt_img_path": [f"{n}.jpg", "x.jpg"]}
        for n in range(3)
    ]  # fmt: skip
    path, queries = tmp_path / "set_pred.jsonl", tmp_path / "queries.jsonl"
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["queries", str(tmp_path / "set.jsonl"), "-o", str(queries)]) == 0
    names = [[called[0].format(f"{n}.jpg"), called[1].format("x.jpg")] for n in range(3)]
    ranked = [{"prediction": own[:: 1 if n else -1], "label": own[:1]} for n, own in enumerate(names)]
    path.write_text("".join(json.dumps(row) + "\n" for row in ranked))
    asked = list(read_queries(queries))
    run = load_run(path, asked)
    places = [[hit.doc_id for hit in run[query.query_id]].index(query.positives[0]) for query in asked]
    assert places == [1, 0, 0]
    with pytest.raises(
        DataError, match=r":1: the label '0.jpg.*' is not the gold document '2.jpg.*' of the query 'set:2'"
    ):
        load_run(path, asked[::-1])


def test_what_uniir_retrieved_for_rag(tmp_path: Path) -> None:
    path = tmp_path / "mbeir_mscoco_task0_union_pool_test_k10_retrieved.jsonl"
    rows = [
        {"query": {"qid": f"9:{n}", "query_txt": "a"}, "candidates": [{"did": f"9:{n}0"}, {"did": "9:7", "txt": "b"}], "complement_candidates": [None, None]}
        for n in range(1, 3)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert load_run(path) == {f"9:{n}": [Hit(f"9:{n}0", -1.0), Hit("9:7", -2.0)] for n in range(1, 3)}
    assert is_ranked(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"query": {"qid": "9:1"}}', ":2 lists no 'query'"),
        ('{"query": {"qid": "9:1"}, "candidates": [{"txt": "b"}]}', ":2 lists no 'query'"),
        ('{"query": "9:1", "candidates": []}', ":2 lists no 'query'"),
        ("{", ":2 lists no 'query'.*not valid JSON"),
        ('{"query": {"qid": "9:0"}, "candidates": []}', ":2: the query '9:0' stands twice"),
        ('{"query": {"qid": "9:1"}, "candidates": [{"did": "9:2"}, {"did": "9:2"}]}', ":2 names the document '9:2' twice"),
    ],
)  # fmt: skip
def test_retrieved_candidates_that_are_broken(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "x_retrieved.jsonl"
    path.write_text('{"query": {"qid": "9:0"}, "candidates": [{"did": "9:1"}]}\n' + row + "\n")
    with pytest.raises(DataError, match=message):
        load_run(path)
    path.write_text("")
    with pytest.raises(DataError, match="holds no query"):
        load_run(path)
