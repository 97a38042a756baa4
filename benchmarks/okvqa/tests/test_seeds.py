"""The table over several seeds, and the tests against the best simple baseline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.okvqa import seeds
from gemkr.errors import DataError
from gemkr.evaluation.significance import paired_test

METRICS = ("P@5", "S@1", "S@5", "S@10", "D@10")
QUERIES = 200


def values(seed: int, share: float) -> list[dict[str, float]]:
    hit = np.random.default_rng(seed).random((QUERIES, len(METRICS))) < share
    return [dict(zip(METRICS, map(float, row), strict=True)) for row in hit]


def evaluate(folder: Path, retrievers: dict[str, list[dict[str, float]]], *, turn: int = 0) -> Path:
    """An evaluation folder as `gemkr eval` leaves it; `turn` starts the queries elsewhere."""
    folder.mkdir(parents=True)
    means = {
        name: {metric: float(np.mean([row[metric] for row in rows])) for metric in METRICS}
        for name, rows in retrievers.items()
    }
    (folder / "metrics.json").write_text(json.dumps({"rows": means}))
    order = [(number + turn) % QUERIES for number in range(QUERIES)]
    lines = [
        {"query_id": str(n), "rows": {name: rows[n] for name, rows in retrievers.items()}} for n in order
    ]
    (folder / "per_query.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_mean_and_spread_of_what_all_seeds_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, shares in enumerate(([0.5, 0.4], [0.6], [0.7])):
        retrievers = {name: values(seed, share) for name, share in zip(("generative", "bm25"), shares)}
        evaluate(tmp_path / f"seed{seed}" / "eval", retrievers)
    seeds.report_seeds(tmp_path, 3)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary.keys() == {"generative"}
    each = [
        np.mean([row["P@5"] for row in values(seed, share)]) for seed, share in enumerate((0.5, 0.6, 0.7))
    ]
    assert summary["generative"]["P@5"] == pytest.approx(np.mean(each))
    assert summary["generative"]["P@5 spread"] == pytest.approx(np.std(each, ddof=1))
    shown = capsys.readouterr().out
    assert f"{np.mean(each):.3f} ({np.std(each, ddof=1):.3f})" in shown
    assert seeds.BASELINE not in shown


def test_each_seed_and_their_means_are_tested_against_the_opponent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = [values(s, 0.6) for s in (1, 2)], [values(s, 0.5) for s in (3, 4)]
    for seed in (0, 1):
        retrievers = {seeds.RETRIEVER: ours[seed], seeds.BASELINE: theirs[seed]}
        evaluate(tmp_path / f"seed{seed}" / "eval", retrievers, turn=7 * seed)
    seeds.report_seeds(tmp_path, 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["seed0", "seed1", "all"]
    folders = [tmp_path / f"seed{seed}" / "eval" for seed in (0, 1)]
    tests = seeds.compare(folders, [(folder, seeds.BASELINE) for folder in folders])
    order = sorted(range(QUERIES), key=str)
    first = [np.array([rows[n]["S@5"] for n in order]) for rows in (theirs[0], ours[0])]
    assert tests["seed0"]["S@5"] == paired_test(*first)
    means = [np.mean([[rows[n]["S@10"] for n in order] for rows in both], axis=0) for both in (theirs, ours)]
    assert tests["all"]["S@10"] == paired_test(*means)
    assert tests["all"]["S@10"].difference == pytest.approx(means[1].mean() - means[0].mean())


def test_all_seeds_are_tested_against_the_one_over_their_encoder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, alone, theirs, simple = (
        [values(s, 0.6) for s in (1, 2)],
        values(5, 0.7),
        values(3, 0.5),
        values(4, 0.4),
    )
    for seed in (0, 1):
        others = {seeds.BASELINE: simple} | ({} if seed else {seeds.SAME_ENCODER: theirs})
        evaluate(tmp_path / f"seed{seed}" / "eval", {seeds.RETRIEVER: ours[seed], **others})
        evaluate(tmp_path / f"seed{seed}" / "alone", {seeds.RETRIEVER: alone})
    seeds.report_seeds(tmp_path, 2)
    seeds.report_seeds(tmp_path, 2, kind="alone", summary="summary_alone.json")
    told = capsys.readouterr().out
    assert [told.count(f"less {name}:") for name in (seeds.BASELINE, seeds.SAME_ENCODER)] == [2, 2]
    lines = told.splitlines()
    gap = np.mean([row["P@5"] for row in alone]) - np.mean([row["P@5"] for row in theirs])
    assert lines[-1].split()[:2] == ["all", f"{gap:+.3f}"]
    assert json.loads((tmp_path / "summary_alone.json").read_text()).keys() == {seeds.RETRIEVER}


def test_rows_over_other_queries_are_not_paired(tmp_path: Path) -> None:
    first = evaluate(tmp_path / "a", {"generative": values(1, 0.5)})
    turned = evaluate(tmp_path / "b", {"generative": values(2, 0.5)}, turn=7)
    assert len(seeds.paired([(first, "generative"), (turned, "generative")])) == 2
    path = turned / "per_query.jsonl"
    path.write_text(path.read_text().replace('"query_id": "3"', '"query_id": "other"'))
    with pytest.raises(DataError, match=r"b and .*a did not answer the same queries"):
        seeds.paired([(first, "generative"), (turned, "generative")])
    with pytest.raises(DataError, match="has no values of 'free_text' by query"):
        seeds.paired([(first, "free_text")])
