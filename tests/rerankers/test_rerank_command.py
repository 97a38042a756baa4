"""`gemkr rerank` and `gemkr tune-mix`: a run file reranked, and the weight of retrieval chosen on its queries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tiny_asking import MODEL, write_config, write_material

from gemkr.cli import main
from gemkr.data.runs import load_run

YES_NO = {"kind": "yes_no", "model": MODEL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("reranked"))


@pytest.fixture
def config(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    return str(write_config(folder, YES_NO))


def test_rerank_equals_the_section_over_the_saved_run(config: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["eval", config]) == 0
    capsys.readouterr()
    assert main(["rerank", config, "first.trec", "retrievers.first.run=nowhere.trec", "-o", "own"]) == 0
    out, err = capsys.readouterr()
    assert out == "own/again/run.jsonl\n"
    assert "again: 4 queries" in err
    ours, theirs = load_run("own/again/run.jsonl"), load_run("out/again/run.jsonl")
    assert ours == theirs
    assert {len(hits) for hits in ours.values()} == {8}
    assert main(["rerank", config, "first.trec", "-o", "own"]) == 0
    assert "4 of them from an earlier run" in capsys.readouterr().err
    Path("again.trec").write_text(Path("first.trec").read_text())
    assert main(["rerank", config, "again.trec", "-o", "own"]) == 1
    assert "again.given" in capsys.readouterr().err


def test_the_weight_of_the_highest_metric_is_chosen(config: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["rerank", config, "first.trec", "-o", "tuned"]) == 0
    capsys.readouterr()
    assert main(["tune-mix", config, "first.trec", "tuned/again/run.jsonl"]) == 0
    out = capsys.readouterr().out
    curve = {float(w): float(v) for w, v in re.findall(r"^ +(\d\.\d\d)  (\d\.\d{4})", out, re.MULTILINE)}
    assert len(curve) == 21
    assert curve[1.0] == 1.0  # the run puts each gold document first
    best = float(re.search(r"(\d\.\d\d)  \S+  best", out)[1])
    assert best == min(weight for weight, value in curve.items() if value == max(curve.values()))
    assert "gold documents" in out
    for weight in (0.0, 0.25, 0.5):
        name = f"out/mixed{weight}"
        overrides = [f"retrievers.again.reranker.retrieval_weight={weight}", f"output={name}"]
        assert main(["eval", config, *overrides, "evaluate=[again]", "clue_control=false"]) == 0
        row = json.loads(Path(name, "metrics.json").read_text())["rows"]["again"]
        assert row["MRR@10"] == pytest.approx(curve[weight], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rerank", "CONFIG", "first.trec", "-o", "x", "--retriever", "first"], "the retriever 'first' is no section of kind reranked; there are again"),
        (["rerank", "CONFIG", "first.trec", "-o", "x", "retrievers.again=bm25"], "no section of retrievers reranks; add one"),
        (["rerank", "CONFIG", "other.trec", "-o", "x"], "other.trec holds none of the 4 queries"),
        (["tune-mix", "CONFIG", "first.trec", "other.trec"], "other.trec holds none of the 4 queries"),
        (["tune-mix", "CONFIG", "less.trec", "first.trec"], "for the query 'q0', and less.trec does not; name the run that was"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(
    config: str, capsys: pytest.CaptureFixture, words: list[str], sentence: str
) -> None:
    Path("other.trec").write_text("x Q0 d1 1 1.0 other\n")
    Path("less.trec").write_text("".join(Path("first.trec").read_text().splitlines(keepends=True)[1:]))
    assert main([config if word == "CONFIG" else word for word in words]) == 1
    *_, error = capsys.readouterr().err.splitlines()
    assert error.startswith("gemkr: ")
    assert sentence in error
