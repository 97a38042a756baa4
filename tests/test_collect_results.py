"""Collecting evaluation folders: figures, spread over seeds, kinds of error, and the page, on made-up folders."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from gemkr.retrievers import RETRIEVERS

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ANSWERS = {"q0": "kite", "q1": "drum", "q2": "zither", "q3": "harp"}
KINDS = {"q0": "answered", "q1": "clue_without_document", "q2": "answer_never_seen", "q3": "other"}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("collect_results")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "query_id": q,
            "question": f"What <{q}> is it?",
            "answers": [a],
            "question_type": f"type {int(q[1]) // 2}",
        }
        for q, a in ANSWERS.items()
    ]
    (tmp_path / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.jsonl").write_text(
        "".join(
            json.dumps({"query_id": a, "question": "x", "answers": [a]}) + "\n"
            for a in ("kite", "drum", "harp")
        )
    )
    long = " ".join(f"word{i}" for i in range(40))
    (tmp_path / "corpus.csv").write_text(f"kid,text\nd0,{long} the kite flies over {long}\nd1,nothing here\n")
    return tmp_path


def evaluation(data: Path, name: str, shift: float = 0.0, limit: int | None = None) -> Path:
    """A folder as gemkr eval writes it; the clues and documents make one query of each kind of error."""
    folder = data / "runs" / name / "eval"
    folder.mkdir(parents=True)
    ids = list(ANSWERS)[:limit]
    own = {"q0": 1.0, "q1": shift, "q2": 0.0, "q3": 0.0}
    mean = sum(own[q] for q in ids) / len(ids)
    cell = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    other = {"mean": 0.2, "low": 0.1, "high": 0.3}
    test = {
        "difference": mean - 0.2,
        "low": 0.0,
        "high": 0.5,
        "p_value": 0.01,
        "better": 1,
        "worse": 0,
        "queries": 4,
    }
    metrics = {
        "relevance": "a document is relevant when it holds an answer (word match)",
        "rows": {"generative": {"P@5": mean, "queries": len(ids)}, "bm25": {"P@5": 0.2, "queries": len(ids)}},
        "intervals": {"generative": {"P@5": cell, "S@5": cell}, "bm25": {"P@5": other, "S@5": other}},
        "tests": {"bm25": {"P@5": test}},
        "clues": {
            "per_query": 2.0,
            "hold_answer": 0.25,
            "any_holds": 0.5,
            "first_holds": 0.25,
            "tokens": 1.5,
        },
        "seconds": {"retrieve with generative": 1.25},
        "config": {
            "queries": str(data / "dev.jsonl"),
            "corpus": str(data / "corpus.csv"),
            "retriever": "generative",
            "match": "word",
            "limit": limit,
            "opponents": {"train": str(data / "train.jsonl")},
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    lines = []
    for q in ids:
        texts = {"q0": ["kite"], "q1": ["piano", "drum"], "q2": ["piano"], "q3": ["flute"]}[q]
        clues = [
            {"text": t, "tokens": [i], "log_prob": math.log(0.5 / (i + 1)), "score": 0.0, "rows": [0, 1]}
            for i, t in enumerate(texts)
        ]
        hit = {"doc_id": "d0" if q == "q0" else "d1", "score": 1.0, "evidence": []}
        if q == "q0":
            hit["evidence"] = [{"text": "kite", "log_prob": -0.7, "start": 41, "stop": 42}]
        lines.append(json.dumps({"query_id": q, "hits": [hit], "clues": clues}) + "\n")
    (folder / "run.jsonl").write_text("".join(lines))
    values = [
        {
            "query_id": q,
            "rows": {"generative": {"P@5": own[q], "S@5": own[q]}, "bm25": {"P@5": 0.2, "S@5": 0.2}},
        }
        for q in ids
    ]
    (folder / "per_query.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    return folder


def manifest(data: Path, *entries: dict, trainings: tuple = ()) -> list[str]:
    path = data / "manifest.yaml"
    path.write_text(yaml.safe_dump({"evaluations": list(entries), "trainings": list(trainings)}))
    return [
        "--manifest",
        str(path),
        "--output",
        str(data / "results.yaml"),
        "--page",
        str(data / "page.html"),
    ]


def read(data: Path) -> dict:
    return yaml.safe_load((data / "results.yaml").read_text())


def test_figures_with_provenance(collector: ModuleType, data: Path) -> None:
    folder = evaluation(data, "a")
    entry = {"name": "a", "folder": str(folder), "command": "gemkr eval a.yaml", "note": "first"}
    assert collector.main(manifest(data, entry)) == 0
    result = read(data)["evaluations"]["a"]
    assert result["rows"]["generative"]["P@5"] == {"mean": 0.25, "low": 0.15, "high": 0.35}
    assert result["command"] == "gemkr eval a.yaml"
    assert result["clues"]["hold_answer"] == 0.25
    assert result["tests"]["bm25"]["P@5"]["p_value"] == 0.01
    assert result["queries"]["count"] == 4
    assert result["queries"]["sha256"] == hashlib.sha256((data / "dev.jsonl").read_bytes()).hexdigest()
    assert str(data) not in (data / "results.yaml").read_text()
    assert result["commit"].keys() == {"newest", "collected"}


def test_missing_folders_are_named_and_old_entries_kept(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"name": "a", "folder": str(evaluation(data, "a")), "command": "one"}
    assert collector.main(manifest(data, first)) == 0
    later = {"name": "b", "folder": str(evaluation(data, "b")), "command": "two"}
    absent = {"name": "c", "folder": str(data / "nowhere"), "command": "three"}
    assert collector.main(manifest(data, later, absent)) == 0
    assert set(read(data)["evaluations"]) == {"a", "b"}
    assert "passed over: c" in capsys.readouterr().err


def test_nothing_to_collect_is_an_error(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collector.main(manifest(data, {"name": "c", "folder": str(data / "nowhere")})) == 1
    assert "none of the folders" in capsys.readouterr().err
    assert not (data / "results.yaml").exists()


def test_a_broken_folder_does_not_stop_the_others(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = evaluation(data, "a"), evaluation(data, "b")
    (bad / "metrics.json").write_text('{"rows": {}}')
    entries = [
        {"name": "a", "folder": str(good), "command": "x"},
        {"name": "b", "folder": str(bad), "command": "x"},
    ]
    assert collector.main(manifest(data, *entries)) == 0
    assert set(read(data)["evaluations"]) == {"a"}
    assert "passed over: b" in capsys.readouterr().err


def test_spread_over_seeds(collector: ModuleType, data: Path) -> None:
    entries = [
        {
            "name": f"seed{i}",
            "folder": str(evaluation(data, f"seed{i}", shift)),
            "command": "x",
            "group": "g",
            "seed": i,
        }
        for i, shift in enumerate((0.0, 0.4, 0.8))
    ]
    assert collector.main(manifest(data, *entries)) == 0
    spread = read(data)["groups"]["g"]
    assert spread["members"] == ["seed0", "seed1", "seed2"]
    assert spread["rows"]["generative"]["P@5"] == {
        "mean": 0.35,
        "deviation": 0.1,
        "values": [0.25, 0.35, 0.45],
    }
    assert spread["rows"]["bm25"]["P@5"]["deviation"] == 0
    assert "over 3 seeds" in (data / "page.html").read_text()


def test_errors_are_counted_and_examples_stay_on_the_page(collector: ModuleType, data: Path) -> None:
    entry = {"name": "a", "folder": str(evaluation(data, "a")), "command": "x", "errors": True}
    assert collector.main(manifest(data, entry)) == 0
    errors = read(data)["evaluations"]["a"]["errors"]
    assert errors["counts"] == dict.fromkeys(KINDS.values(), 1)
    assert errors["no_answer_seen_in_training"] == 1
    assert errors["answered_without_right_clue"] == 0
    assert errors["by_question_type"]["type 0"]["answered"] == 1
    assert errors["by_question_type"]["type 1"]["other"] == 1
    page, published = (data / "page.html").read_text(), (data / "results.yaml").read_text()
    assert "What &lt;q1&gt; is it?" in page
    assert "drum 25.0 %" in page
    assert "zither" in page
    assert not any(word in published for word in ("zither", "What", "flies"))


def test_a_run_over_fewer_queries_is_compared_on_these(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"name": "whole", "folder": str(evaluation(data, "whole", 1.0)), "command": "x"}
    part = {
        "name": "part",
        "folder": str(evaluation(data, "part", limit=2)),
        "command": "x",
        "against": "whole",
    }
    lost = {"name": "lost", "folder": part["folder"], "command": "x", "against": "nobody"}
    assert collector.main(manifest(data, whole, part, lost)) == 0
    pair = read(data)["evaluations"]["part"]["against"]
    assert (pair["of"], pair["queries"]) == ("whole", 2)
    assert {key: pair["tests"]["P@5"][key] for key in ("base", "mean", "difference")} == {
        "base": 1.0,
        "mean": 0.5,
        "difference": -0.5,
    }
    assert "lost not compared: nobody" in capsys.readouterr().err
    gone = {"name": "gone", "folder": str(data / "nowhere"), "command": "x"}
    assert collector.main(manifest(data, gone, part | {"against": "gone"})) == 0
    assert "against" in read(data)["evaluations"]["part"]
    assert "-0.500" in (data / "page.html").read_text()


def test_excerpts_are_short_and_around_the_evidence(collector: ModuleType, data: Path) -> None:
    errors = importlib.import_module("result_errors")
    config = json.loads((evaluation(data, "a") / "metrics.json").read_text())["config"]
    analysis = errors.analyse(data / "runs" / "a" / "eval", config, data / "train.jsonl")
    (example,) = analysis.examples["answered"]
    ((doc_id, text, right),) = example.documents
    assert (doc_id, right) == ("d0", True)
    assert "kite" in text
    assert len(text.replace("…", "").split()) == 15


def test_an_unfinished_run_has_no_errors(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = evaluation(data, "a")
    run = (folder / "run.jsonl").read_text().splitlines(keepends=True)
    (folder / "run.jsonl").write_text("".join(run[:2]))
    entry = {"name": "a", "folder": str(folder), "command": "x", "errors": True}
    assert collector.main(manifest(data, entry)) == 0
    assert "errors" not in read(data)["evaluations"]["a"]
    assert "q2" in capsys.readouterr().err


def test_stars_learning_curves_and_curves_over_x(collector: ModuleType, data: Path) -> None:
    for name, shift in (("ten", 0.1), ("twenty", 0.5)):
        evaluation(data, f"beams/{name}", shift)
        (data / "runs" / "beams" / name / "loss.jsonl").write_text(
            "".join(
                json.dumps({"step": s, "loss": 5.0 / s, "development_loss": 6.0 / s}) + "\n"
                for s in range(1, 400)
            )
        )
    starred = {"name": "star/*", "folder": str(data / "runs/beams/*/eval"), "command": "eval *"}
    curve = [
        {
            "name": f"x{x}",
            "folder": str(data / f"runs/beams/{n}/eval"),
            "command": "x",
            "group": "beam size",
            "x": x,
        }
        for n, x in (("ten", 10), ("twenty", 20))
    ]
    trainings = ({"name": "train/*", "folder": str(data / "runs/beams/*")},)
    assert collector.main(manifest(data, starred, trainings=trainings)) == 0
    assert read(data)["evaluations"]["star/twenty"]["command"] == "eval twenty"
    assert collector.main(manifest(data, *curve, trainings=trainings)) == 0
    page = (data / "page.html").read_text()
    assert "beam size" in page
    assert "held-out loss" in page
    assert "train/ten" in page


def test_the_command_is_reconstructed_from_the_configuration(collector: ModuleType, data: Path) -> None:
    from gemkr.config import EvalConfig, load_config, to_mapping

    record = importlib.import_module("result_record")
    config = data / "base.yaml"
    config.write_text(
        "retriever: bm25\nqueries: q.jsonl\ncorpus: c.csv\noutput: runs/a\nbaselines: [bm25_caption]\n"
    )
    told = json.loads(json.dumps(to_mapping(load_config(config, EvalConfig, []))))
    assert record.reconstructed(str(config), told) == f"gemkr eval {config}"
    told |= {"output": "runs/b", "baselines": [], "limit": 7}
    told["decoding"] |= {"beam_size": 3}
    words = record.reconstructed(str(config), told).split()[3:]
    assert sorted(words) == ["baselines=[]", "decoding.beam_size=3", "limit=7", "output=runs/b"]
    told["ensemble"] = [{"llm": "runs/my model"}]
    words = shlex.split(record.reconstructed(str(config), told))[3:]
    assert 'ensemble=[{"llm":"runs/my model"}]' in words
    told["ensemble"] = []
    again = load_config(config, EvalConfig, [word for word in words if "ensemble" not in word])
    assert json.loads(json.dumps(to_mapping(again))) == told
    older = {key: value for key, value in told.items() if key not in ("baselines", "answer_expert")}
    config.write_text(config.read_text() + "answer_expert: {train: t.jsonl}\n")
    words = record.reconstructed(str(config), older).split()[3:]
    assert {"baselines=[]", "answer_expert=null"} <= set(words)


def test_folders_of_the_command_line(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = manifest(data)
    folder = evaluation(data, "a")
    assert collector.main([f"mine={folder}", "--command", "gemkr eval mine", *options]) == 0
    assert read(data)["evaluations"]["mine"]["command"] == "gemkr eval mine"
    assert collector.main(["mine", *options]) == 1
    assert "NAME=FOLDER" in capsys.readouterr().err


def test_a_star_stands_for_part_of_a_folder(
    collector: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("beams_5", "beams_30", "other"):
        evaluation(data, name)
    starred = {"name": "beams/*", "folder": str(data / "runs/beams_*/eval"), "command": "x output=*"}
    assert collector.main(manifest(data, starred)) == 0
    found = read(data)["evaluations"]
    assert {name: found[name]["command"] for name in found} == {
        "beams/5": "x output=5",
        "beams/30": "x output=30",
    }
    for wrong in ({"name": "beams"}, {"folder": str(data / "*/beams_*/eval")}):
        assert collector.main(manifest(data, starred | wrong)) == 1
        assert "needs one star, and its name one" in capsys.readouterr().err


def test_the_projects_manifest_can_be_read(collector: ModuleType) -> None:
    entries, trainings = collector.read_manifest(BENCHMARKS / "results_manifest.yaml")
    assert {"seed0", "seed1", "seed2", "ablation/*"} <= {entry.name for entry in entries}
    assert all(entry.config for entry in entries)
    assert trainings


def test_ticks_enclose_what_is_drawn(collector: ModuleType) -> None:
    plots = importlib.import_module("result_plots")
    for low, high in ((0.12, 0.43), (0.7, 0.7), (0.0, 0.0), (-1.0, 12.5), (1.2, 10.4)):
        ticks = plots.nice_ticks(low, high, 4)
        assert ticks[0] <= low
        assert ticks[-1] >= high
        assert 2 <= len(ticks) <= 7
    assert len(plots.thinned([(float(i), 1.0) for i in range(1000)])) <= 160


def test_what_a_model_found_is_told_from_what_opponents_did(collector: ModuleType) -> None:
    tells = sys.modules["result_page"].depends_on_model
    opponents = {"bm25", "bm25_caption", "bm25_detections", "nearest_questions", "nearest_questions_query"}
    opponents |= {"answer_classifier", "answer_classifier_coverage", "encoder_classifier_coverage", "fusion"}
    opponents |= {"expert_alone", "learned_scorer"}
    assert {name for name in RETRIEVERS if not tells(name)} == opponents
