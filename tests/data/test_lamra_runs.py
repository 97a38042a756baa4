"""Results of LamRA's retrieval and rerankers, scored as runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.data.lamra_runs import FOLDER
from gemkr.data.runs import is_ranked, load_run
from gemkr.errors import DataError
from gemkr.types import Hit


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


def test_scores_as_lamra_writes_them(tmp_path: Path) -> None:
    """Each query's in a list of one list."""
    path = lamra(tmp_path, ["9:1", "9:2"], [["9:7", "9:8"], ["9:8"]], [[[0.2, 0.9]], [[1.0]]])
    assert load_run(path) == {"9:1": [Hit("9:8", 0.9), Hit("9:7", 0.2)], "9:2": [Hit("9:8", 1.0)]}
    path = lamra(tmp_path, ["9:1"], [["9:7", "9:8"]], [[[0.2, 0.9], [0.1]]])
    with pytest.raises(DataError, match=r"list 0: the score \[0.2, 0.9\] of"):
        load_run(path)


QUERIES = ["9:1", "9:2", "9:3"]
NAMES = [["9:11", "9:12", "9:13"], ["9:21", "9:22", "9:23"], ["9:31", "9:32", "9:33"]]
SCORES = [[[0.9, 0.8, 0.7]], [[0.5, 0.4, 0.3]], [[0.2, 0.1, 0.0]]]
POINTWISE, LISTWISE = (
    f"mscoco_task0_top{name}.json"
    for name in ("3_test_queryid2rerank_score", "3_all_test_queryid2rerank_outputs_listwise")
)


@pytest.fixture
def reranked(tmp_path: Path) -> Path:
    """LamRA's folders: a retrieval of two tasks, and in the returned folder what the rerankers made of one."""
    for task in ("mscoco_task0", "mscoco_task3"):
        for end, value in (("query_names", QUERIES), ("cand_names", NAMES), ("scores", SCORES)):
            path = tmp_path / FOLDER / f"mbeir_{task}_test_qwen2-vl-7b_LamRA-Ret_{end}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(value if task == "mscoco_task0" else [[], [], []]))
    folder = tmp_path / "mbeir_rerank_files"
    folder.mkdir()
    (folder / POINTWISE).write_text(
        json.dumps({"9:1": [0.1, 0.7, 0.3], "9:2": [0.5, 0.5], "9:3": [0.0, 0.0, 1.0]})
    )
    (folder / LISTWISE).write_text(json.dumps({"9:1": "Ans: (3)", "9:2": "The second", "9:3": "Ans: (4)"}))
    return folder


def test_pointwise_scores_follow_the_retrieval(reranked: Path) -> None:
    path = reranked / POINTWISE
    assert load_run(path) == {
        "9:1": [Hit("9:12", 0.7), Hit("9:13", 0.3), Hit("9:11", 0.1)],
        "9:2": [Hit("9:22", 0.5), Hit("9:21", 0.5)],
        "9:3": [Hit("9:33", 1.0), Hit("9:32", 0.0), Hit("9:31", 0.0)],
    }
    assert [hit.doc_id for hit in load_run(path, ties="file")["9:2"]] == ["9:21", "9:22"]
    assert not is_ranked(path)


def test_listwise_answers_put_one_first(reranked: Path) -> None:
    """An answer that names nothing leaves the order as it was, and the queries after it their own."""
    path = reranked / LISTWISE
    assert {query: [hit.doc_id for hit in hits] for query, hits in load_run(path).items()} == {
        "9:1": ["9:13", "9:11", "9:12"],
        "9:2": ["9:21", "9:22", "9:23"],
        "9:3": ["9:31", "9:32", "9:33"],
    }
    assert load_run(path)["9:1"][1] == Hit("9:11", -2.0)
    assert is_ranked(path)
    shorter = path.with_name(LISTWISE.replace("top3", "top2"))
    path.rename(shorter)
    assert {query: [hit.doc_id for hit in hits] for query, hits in load_run(shorter).items()} == {
        "9:1": ["9:11", "9:12"],
        "9:2": ["9:21", "9:22"],
        "9:3": ["9:31", "9:32"],
    }


def test_a_rerankers_files_are_scored(
    reranked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "qrels.txt").write_text("9:1 0 9:13 1 0\n9:2 0 9:22 1 0\n9:3 0 9:33 1 0\n")
    monkeypatch.chdir(reranked)
    for name, wanted in ((POINTWISE, [0.0, 1.0, 1.0]), (LISTWISE, [1.0, 0.0, 0.0])):
        output = tmp_path / "scores.json"
        assert main(["score", name, "../qrels.txt", "--metrics", "S@1", "--json", str(output)]) == 0
        (values,) = json.loads(output.read_text())["queries"].values()
        assert [values[query]["S@1"] for query in QUERIES] == wanted


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (POINTWISE, {"9:4": [0.1]}, "query '9:4' is not in the retrieval beside it"),
        (POINTWISE, {"9:1": [0.1] * 4}, "query '9:1' has not a list of at most 3 scores"),
        (POINTWISE, {"9:1": "Ans: (1)"}, "query '9:1' has not a list of at most 3 scores"),
        (POINTWISE, {"9:1": [0.1, None, 0.2]}, "query '9:1': the score None of document '9:12'"),
        (POINTWISE, [0.1], "is no result of a LamRA reranker"),
        (POINTWISE, {}, "is no result of a LamRA reranker"),
        (LISTWISE, {"9:1": [0.1]}, "query '9:1' has no answer such as"),
    ],
)
def test_reranked_files_that_do_not_fit(reranked: Path, name: str, content: object, message: str) -> None:
    (reranked / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load_run(reranked / name)


def test_a_retrieval_that_is_missing_or_not_the_only_one(reranked: Path) -> None:
    names = next((reranked.parent / FOLDER).glob("*task0*_cand_names.json"))
    (reranked / names.name).write_text(names.read_text())
    with pytest.raises(DataError, match=r"names no documents, and 2 files like \*mscoco_task0\*_cand_names"):
        load_run(reranked / POINTWISE)
    for path in (reranked / names.name, names):
        path.unlink()
    with pytest.raises(DataError, match=r"names no documents, and no files like .* put the three files"):
        load_run(reranked / LISTWISE)
