"""Means over data sets and groups of them equal a loop; MMEB's groups are those of its published figures, and print beside the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.groups import grouped_scores
from gemkr.evaluation.metrics import Scores

ROOT = Path(__file__).resolve().parents[2]
ANSWERS = {"GQA": [1, 0, 1, 1], "WebQA": [0, 1], "EDIS": [1], "Own": [0, 0, 0]}
"""By set: which queries are answered by the first candidate."""
GROUPS = {
    "vqa": ("GQA", "OK-VQA"),
    "retrieval": ("WebQA", "EDIS"),
    "empty": ("CIRR",),
    "two": ("GQA", "EDIS"),
}


def test_sets_count_alike_in_a_group() -> None:
    """Against a loop; sets that are not there are counted, and groups without any left out."""
    ids = tuple(f"{name}:{n}" for name, found in ANSWERS.items() for n in range(len(found)))
    rng = np.random.default_rng(0)
    values = {
        "S@1": np.array([v for found in ANSWERS.values() for v in found], float),
        "MRR@10": rng.random(len(ids)),
    }
    order = rng.permutation(len(ids))
    mixed = Scores(
        ("none", *(ids[i] for i in order)), {m: np.concatenate([[1.0], v[order]]) for m, v in values.items()}
    )
    found = grouped_scores(mixed, GROUPS)
    assert found is not None
    for metric, column in values.items():
        of_set = {
            name: sum(v for i, v in zip(ids, column, strict=True) if i.startswith(f"{name}:")) / len(own)
            for name, own in ANSWERS.items()
        }
        assert {name: means.values[metric] for name, means in found.sets.items()} == pytest.approx(of_set)
        wanted = {
            "vqa": of_set["GQA"],
            "retrieval": (of_set["WebQA"] + of_set["EDIS"]) / 2,
            "two": (of_set["GQA"] + of_set["EDIS"]) / 2,
            "all": sum(of_set.values()) / 4,
        }
        assert {name: means.values[metric] for name, means in found.groups.items()} == pytest.approx(wanted)
    assert {name: (means.count, means.wanted) for name, means in found.groups.items()} == {
        "vqa": (1, 2), "retrieval": (2, 2), "two": (2, 2), "all": (4, 6),
    }  # fmt: skip
    assert {name: means.count for name, means in found.sets.items()} == {
        n: len(v) for n, v in ANSWERS.items()
    }
    assert grouped_scores(Scores(("a", "b"), {"S@1": np.ones(2)}), GROUPS) is None


def test_groups_of_mmeb_are_those_that_are_published() -> None:
    groups = load_config(find_config("mmeb", "eval"), EvalConfig).groups
    published = yaml.safe_load((ROOT / "docs" / "published.yaml").read_text(encoding="utf-8"))["mmeb"]
    assert [*groups, "overall"] == list(published["vlm2vec_qwen2_vl_2b"])
    tasks = {name: groups[name] for name in ("classification", "vqa", "retrieval", "grounding")}
    assert [len(sets) for sets in tasks.values()] == [10, 10, 12, 4]
    every = {name for sets in tasks.values() for name in sets}
    assert len(every) == 36
    known, unknown = set(groups["in_distribution"]), set(groups["out_of_distribution"])
    assert (len(known), len(unknown)) == (20, 16)
    assert known | unknown == every
    for model in ("vlm2vec_qwen2_vl_2b", "vlm2vec_qwen2_vl_7b"):
        figures = published[model]
        for parts in (tasks, ("in_distribution", "out_of_distribution")):
            mean = sum(figures[name] * len(groups[name]) for name in parts) / 36
            assert mean == pytest.approx(figures["overall"], abs=0.1)


def test_an_evaluation_of_several_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From MMEB's files, joined as docs/reproduce.md joins them, to figures of sets and groups."""
    monkeypatch.chdir(tmp_path)
    parts: dict[str, list[str]] = {name: [] for name in ("queries", "corpus", "pools")}
    for name, found in ANSWERS.items():
        rows = [
            {
                "qry_inst": "", "qry_text": "find the otter", "qry_img_path": "",
                "tgt_text": ["the otter", f"a heron {n}"] if right else [f"a heron {n}", "the otter"],
                "tgt_img_path": ["", ""],
            }
            for n, right in enumerate(found)
        ]  # fmt: skip
        Path("test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = ["-o", "queries.jsonl", "--corpus", "corpus.jsonl", "--pools", "pools.jsonl"]
        assert main(["queries", "test.jsonl", "--name", name, *files]) == 0
        for part, lines in parts.items():
            lines += Path(f"{part}.jsonl").read_text().splitlines()
    for part, lines in parts.items():
        Path(f"{part}.jsonl").write_text("\n".join(sorted(set(lines))) + "\n")
    groups = json.dumps(GROUPS)
    Path("eval.yaml").write_text(
        f"queries: queries.jsonl\ncorpus: corpus.jsonl\npools: {{p: pools.jsonl}}\noutput: out\nmetrics: [S@1, S@5]\ngroups: {groups}\n"
        "retrievers: {bm25: bm25}\n"
    )
    capsys.readouterr()
    assert main(["eval", "eval.yaml"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["bm25", "by", "data", "set", "S@1", "S@5"] in lines
    for line in (
        "GQA .750 .750 4 queries", "vqa .750 .750 1 of 2 sets", "retrieval .750 .750 2 sets", "Own .000 .000 3 queries",
        "all .562 .562 4 of 6 sets",
    ):  # fmt: skip
        assert line.split() in lines
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["grouped"]["bm25"]["groups"]["all"]["values"]["S@1"] == pytest.approx((0.75 + 0.5 + 1) / 4)
    assert (
        "mean over data sets: vqa 0.750 (1 of 2), retrieval 0.750 (2 of 2)"
        in Path("out/report.html").read_text()
    )
    assert main(["eval", "eval.yaml", "groups=null", "output=other"]) == 0
    assert "grouped" not in json.loads(Path("other/metrics.json").read_text())
