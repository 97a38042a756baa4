"""Results of LamRA, VLM2Vec and FLMR, scored as runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.runs import is_ranked, load_run
from gemkr.errors import DataError
from gemkr.types import Hit, Query


def lamra(folder: Path, queries: object, names: object, scores: object) -> Path:
    for end, value in (("query_names", queries), ("cand_names", names), ("scores", scores)):
        (folder / f"mbeir_task0_{end}.json").write_text(json.dumps(value))
    return folder / "mbeir_task0_cand_names.json"


def test_lamra(tmp_path: Path) -> None:
    path = lamra(tmp_path, ["9:1", "9:2"], [["9:7", "9:8", "9:9"], ["9:8"]], [[0.2, 0.9, 0.2], [1]])
    wanted = {"9:1": ["9:8", "9:9", "9:7"], "9:2": ["9:8"]}
    for end in ("query_names", "cand_names", "scores"):
        file = tmp_path / f"mbeir_task0_{end}.json"
        assert {q: [hit.doc_id for hit in hits] for q, hits in load_run(file).items()} == wanted
        assert not is_ranked(file)
    assert [hit.doc_id for hit in load_run(path, ties="file")["9:1"]] == ["9:8", "9:7", "9:9"]
    assert load_run(path)["9:2"] == [Hit("9:8", 1.0)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((["q"], [["d"], ["e"]], [[1.0]]), r"cand_names.json has 2 entries, .*query_names.json 1"),
        ((["q"], [["d", "e"]], [[1.0]]), r"cand_names.json: list 0 has not as many ids"),
        ((["q"], [["d", "d"]], [[1.0, 0.5]]), r"list 0 names the document 'd' twice"),
        ((["q"], [["d"]], [["high"]]), r"list 0: the score 'high' of document 'd'"),
        ((["q"], [["d"]], [[float("nan")]]), r"list 0: the score nan of document 'd'"),
        ((["q", "q"], [["d"]] * 2, [[1.0]] * 2), r"query_names.json: the query 'q' is listed twice"),
        ((["q"], [["d e"]], [[1.0]]), r"list 0: the document id 'd e' holds white space"),
        (({"q": 1}, [["d"]], [[1.0]]), r"query_names.json is no part of a LamRA result"),
    ],
)
def test_lamra_that_does_not_fit(tmp_path: Path, files: tuple[object, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_run(lamra(tmp_path, *files))


def test_lamra_with_a_file_missing(tmp_path: Path) -> None:
    path = lamra(tmp_path, ["q"], [["d"]], [[1.0]])
    (tmp_path / "mbeir_task0_scores.json").unlink()
    with pytest.raises(DataError, match=r"mbeir_task0_scores.json does not exist"):
        load_run(path)


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
    assert [values[f"set-{n}"]["S@1"] for n in range(10)] == [1.0] * 7 + [0.0] * 3
    assert {values[f"set-{n}"]["S@2"] for n in range(10)} == {1.0}
    with pytest.raises(DataError, match=r"set_pred.jsonl holds 10 rankings for 1 queries"):
        load_run(path, [Query("q", "q")])
    with pytest.raises(DataError, match=r"names documents without queries"):
        load_run(path)
    path.write_text('{"label": []}\n')
    with pytest.raises(DataError, match=r"set_pred.jsonl:1: the row has no list 'prediction'"):
        load_run(path, [Query("q", "q")])
