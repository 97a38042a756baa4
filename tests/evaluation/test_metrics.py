"""Metrics against ir_measures and by hand; intervals and the paired test against what theory says."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest

from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.metrics import evaluate, parse_metric, parse_metrics
from gemkr.evaluation.significance import bootstrap_interval, paired_test
from gemkr.types import Hit

NAMES = ("P@1", "P@5", "R@5", "R@10", "S@1", "S@5", "S@10", "MRR@10", "nDCG@10", "D@10")
THEIRS = {"P": "P", "R": "R", "S": "Success", "MRR": "RR", "nDCG": "nDCG"}


def random_case(seed: int, queries: int = 40) -> tuple[dict, dict]:
    rng = np.random.default_rng(seed)
    docs = [f"d{i}" for i in range(60)]
    run, qrels = {}, {}
    for q in range(queries):
        listed = rng.permutation(docs)[: rng.integers(1, 15)]
        run[f"q{q}"] = [Hit(str(doc), float(len(listed) - i)) for i, doc in enumerate(listed)]
        judged = rng.permutation(docs)[: rng.integers(1, 20)]
        qrels[f"q{q}"] = {str(doc): int(rng.integers(0, 4)) for doc in judged}
    return run, qrels


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_ir_measures_per_query(seed: int) -> None:
    run, qrels = random_case(seed)
    scores = evaluate(run, qrels, parse_metrics(NAMES))
    theirs_run = [ir_measures.ScoredDoc(q, hit.doc_id, hit.score) for q, hits in run.items() for hit in hits]
    theirs_qrels = [ir_measures.Qrel(q, d, g) for q, judged in qrels.items() for d, g in judged.items()]
    for name in NAMES:
        metric = parse_metric(name)
        if metric.kind not in THEIRS:
            continue
        measure = ir_measures.parse_measure(f"{THEIRS[metric.kind]}@{metric.k}")
        theirs = {m.query_id: m.value for m in ir_measures.iter_calc([measure], theirs_qrels, theirs_run)}
        ours = {q: row[name] for q, row in scores.per_query().items()}
        for query_id, value in theirs.items():
            assert ours[query_id] == pytest.approx(value), (name, query_id)


def test_by_hand_with_a_repeated_document_and_a_missing_query() -> None:
    run = {"a": [Hit("x", 3), Hit("y", 2), Hit("y", 1)], "unjudged": [Hit("x", 1)]}
    qrels = {"a": {"y": 1, "z": 1, "x": 0}, "b": {"x": 1}}
    scores = evaluate(run, qrels, parse_metrics(["P@5", "R@5", "S@1", "S@5", "MRR@5", "D@5"]))
    assert scores.query_ids == ("a", "b")
    assert scores.missing == ("b",)
    assert scores.per_query()["a"] == {"P@5": 0.4, "R@5": 0.5, "S@1": 0, "S@5": 1, "MRR@5": 0.5, "D@5": 2}
    assert set(scores.per_query()["b"].values()) == {0.0}
    assert scores.mean("S@5") == 0.5


def test_no_common_query_is_an_error() -> None:
    with pytest.raises(DataError, match="no query in common"):
        evaluate({"a": [Hit("x", 1)]}, {"b": {"x": 1}}, parse_metrics(["P@5"]))


@pytest.mark.parametrize("name", ["P", "P@0", "Q@5", "@5", "P@-1", "P@100000000000"])
def test_unknown_metrics_are_named(name: str) -> None:
    with pytest.raises(ConfigError, match="known are P@k"):
        parse_metric(name)


def test_cut_offs_far_beyond_the_lists_cost_nothing() -> None:
    run, qrels = random_case(0)
    kinds = ("P", "R", "S", "MRR", "nDCG", "D")
    near = evaluate(run, qrels, parse_metrics([f"{kind}@60" for kind in kinds]))
    far = evaluate(run, qrels, parse_metrics([f"{kind}@600000000" for kind in kinds]))
    for kind in kinds:
        scale = 1e7 if kind == "P" else 1
        assert far.values[f"{kind}@600000000"] * scale == pytest.approx(near.values[f"{kind}@60"]), kind
    nothing = evaluate({"a": []}, {"a": {}}, parse_metrics(["MRR@5", "P@5"]))
    assert nothing.mean("MRR@5") == nothing.mean("P@5") == 0


def test_metric_names_are_forgiving_about_case_and_doubles() -> None:
    assert [str(m) for m in parse_metrics(["ndcg@10", "mrr@5", "nDCG@10"])] == ["nDCG@10", "MRR@5"]


def test_bootstrap_interval_has_the_width_of_the_normal_one_and_is_seeded() -> None:
    values = (np.random.default_rng(0).random(2000) < 0.4).astype(float)
    low, high = bootstrap_interval(values, seed=3)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == bootstrap_interval(values, seed=3)
    assert low == pytest.approx(values.mean() - half, abs=0.003)
    assert high == pytest.approx(values.mean() + half, abs=0.003)


def test_paired_test_tells_a_real_difference_from_none() -> None:
    rng = np.random.default_rng(1)
    a = (rng.random(500) < 0.5).astype(float)
    better = np.where(rng.random(500) < 0.15, 1.0, a)
    noise = rng.permutation(a)
    real = paired_test(a, better)
    assert real.p_value < 0.001
    assert 0 < real.low < real.difference < real.high
    assert paired_test(a, noise).p_value > 0.05
    assert paired_test(a, a).p_value == 1.0


def test_paired_test_agrees_with_the_exact_sign_test() -> None:
    a, b = np.zeros(12), np.array([1.0] * 10 + [-1.0] * 2)
    exact = 2 * (1 + 12 + 66) / 2**12
    assert paired_test(a, b, samples=20_000).p_value == pytest.approx(exact, abs=0.006)
