"""`gemkr rerank` and `gemkr tune-mix`: a run file reranked, and the weight of retrieval chosen on its queries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_asking import MODEL, write_config, write_material

from gemkr.cli import main
from gemkr.data.runs import load_run
from gemkr.rerankers.pointwise import mixed

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
    assert main(["tune-mix", config, "first.trec", "out/mixed0.0/again/run.trec"]) == 0
    assert main(["tune-mix", config, "first.trec", "out/mixed0.5/again/run.trec"]) == 1
    assert (
        "was reranked with retrieval_weight 0.5, so that retrieval would count twice"
        in capsys.readouterr().err
    )


def test_scores_that_are_not_scaled(config: str, capsys: pytest.CaptureFixture) -> None:
    """Retrieval says 0.9 d1 over 0.8 d2, reranking 0.1 d1 under 0.3 d2: LamRA's sums are 1.0 and 1.1 with w = 1, 0.91 and 0.83 with
    w = 0.1. Scaled, each says 1 and 0, and the two are level at one half."""
    Path("ret.trec").write_text("q0 Q0 d1 1 0.9 a\nq0 Q0 d2 2 0.8 a\n")
    Path("rank.trec").write_text("q0 Q0 d2 1 0.3 a\nq0 Q0 d1 2 0.1 a\n")
    Path("relevant.txt").write_text("q0 0 d2 1\n")
    ours = ["qrels=relevant.txt", "metrics=[S@1]"]

    def curve(*overrides: str) -> dict[float, float]:
        capsys.readouterr()
        assert main(["tune-mix", config, "ret.trec", "rank.trec", *ours, *overrides]) == 0
        out = capsys.readouterr().out
        assert ("as they come" in out) == bool(overrides)
        return {float(w): float(v) for w, v in re.findall(r"^ +(\d\.\d\d)  (\d\.\d{4})", out, re.MULTILINE)}

    assert {w for w, value in curve().items() if value} == {step / 20 for step in range(10)}
    # a * 0.1 < (1 - a) * 0.2 up to a = 2 / 3, where w = 1 / 2
    plain = curve("retrievers.again.reranker.scaled=false")
    assert {w for w, value in plain.items() if value} == {step / 20 for step in range(14)}


def test_mixed_by_hand() -> None:
    """LamRA's cos + w * yes, divided by 1 + w: for w = 1, 0.5 and 0.1 of its scripts."""
    cos, yes = np.array([0.9, 0.8, 0.2], np.float32), np.array([0.1, 0.3, 1.0], np.float32)
    for w, sums in ((1.0, [1.0, 1.1, 1.2]), (0.5, [0.95, 0.95, 0.7]), (0.1, [0.91, 0.83, 0.3])):
        found = mixed(cos, yes, 1 / (1 + w), scale=False)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found * (1 + w), sums, atol=1e-6)
    np.testing.assert_allclose(mixed(cos, yes, 0.5), [0.5, (6 / 7 + 2 / 9) / 2, 0.5], atol=1e-6)


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
