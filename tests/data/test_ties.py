"""Equal scores: read and written so that we and trec_eval (by way of ir_measures) see the same ranking."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import ir_measures
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemkr.cli import main
from gemkr.data.qrels import write_qrels
from gemkr.data.ties import ties_across
from gemkr.data.trec import read_run, write_run
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.metrics import evaluate, parse_metrics
from gemkr.types import Hit, Ranking

CUTS = (1, 2, 3, 5, 10)
NAMES = tuple(f"{kind}@{k}" for kind in ("P", "R", "S", "MRR", "nDCG", "MAP") for k in CUTS)
THEIRS = {"P": "P", "R": "R", "S": "Success", "nDCG": "nDCG", "MAP": "AP"}
DOC_IDS = ("a", "b", "B", "10", "9", "doc-2", "doc-10", "é", "z", "日", "😀", "\ufffd")
SCORES = (0.0, -0.0, 1.0, 1.0 + 1e-9, 1.0 + 2e-7, 2**24, 2**24 + 1, 1e-50, 1e-44, -3.5, 1e300, 1e301, -1e300)

runs = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.lists(
        st.tuples(st.sampled_from(DOC_IDS), st.sampled_from(SCORES)), min_size=1, unique_by=lambda row: row[0]
    ),
    min_size=1,
)
judgements = st.fixed_dictionaries(
    {q: st.dictionaries(st.sampled_from(DOC_IDS), st.integers(0, 3), min_size=1) for q in ("q1", "q2", "q3")}
)


def theirs(run_file: Path, qrels: dict) -> dict[str, dict[str, float]]:
    """What ir_measures' trec_eval makes of a run file: {metric: {query: value}}."""
    scored = list(ir_measures.read_trec_run(str(run_file)))
    judged = [ir_measures.Qrel(q, d, grade) for q, row in qrels.items() for d, grade in row.items()]
    names = {f"{kind}@{k}": f"{name}@{k}" for kind, name in THEIRS.items() for k in CUTS}
    names |= {"MAP": "AP", "MRR": "RR"}
    measures = {ours: ir_measures.parse_measure(name) for ours, name in names.items()}
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for each in ir_measures.pytrec_eval.iter_calc(list(measures.values()), judged, scored):
        (name,) = [ours for ours, measure in measures.items() if measure == each.measure]
        found[name][each.query_id] = each.value
    whole = found.pop("MRR")
    for k in CUTS:
        found[f"MRR@{k}"] = {q: value if value * k >= 1 - 1e-9 else 0.0 for q, value in whole.items()}
    return found


def agree(ours: dict, run_file: Path, qrels: dict) -> None:
    scores = evaluate(ours, qrels, parse_metrics([*NAMES, "MAP"])).per_query()
    for name, by_query in theirs(run_file, qrels).items():
        for query_id, value in by_query.items():
            assert scores[query_id][name] == pytest.approx(value, abs=1e-12), (name, query_id)


@given(runs, judgements)
@example({"q1": [("b", 1.0), ("c", 1.0)]}, {"q1": {"b": 1}})
@example({"q1": [("b", 1.0 + 1e-9), ("c", 1.0)]}, {"q1": {"b": 1}})
def test_a_run_with_ties_scores_as_in_trec_eval(run: dict, qrels: dict) -> None:
    qrels = {q: judged for q, judged in qrels.items() if q in run}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.trec"
        path.write_text(
            "".join(
                f"{q} Q0 {doc_id} {rank} {score!r} t\n"
                for q, rows in run.items()
                for rank, (doc_id, score) in enumerate(rows, 1)
            ),
            encoding="utf-8",
        )
        agree(read_run(path), path, qrels)


@given(runs, judgements)
def test_our_own_runs_score_elsewhere_as_they_are_ranked(run: dict, qrels: dict) -> None:
    qrels = {q: judged for q, judged in qrels.items() if q in run}
    rankings = [
        Ranking(q, tuple(Hit(doc_id, score) for doc_id, score in rows if score > -1e38))
        for q, rows in run.items()
    ]
    ranked = {ranking.query_id: ranking.hits for ranking in rankings}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.trec"
        write_run(path, rankings)
        if not path.read_text(encoding="utf-8"):
            return
        for scores in (np.float64, np.float32):
            for hits in read_run(path).values():
                assert (np.diff(scores([hit.score for hit in hits])) < 0).all()
        for ties in ("doc_id", "file"):
            again = read_run(path, ties=ties)
            assert {q: [hit.doc_id for hit in hits] for q, hits in again.items()} == {
                q: [hit.doc_id for hit in hits] for q, hits in ranked.items() if hits
            }
        agree(ranked, path, qrels)


def test_equal_scores_come_by_descending_id_or_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q Q0 b 1 1.0 t\nq Q0 c 2 1.0 t\nq Q0 d 4 1.0 t\nq Q0 a 3 1.0 t\nq Q0 z 5 0.5 t\n")
    assert [hit.doc_id for hit in read_run(path)["q"]] == ["d", "c", "b", "a", "z"]
    assert [hit.doc_id for hit in read_run(path, ties="file")["q"]] == ["b", "c", "a", "d", "z"]
    with pytest.raises(ConfigError, match="the order of ties 'rank' is unknown; use doc_id or file"):
        read_run(path, ties="rank")


def test_ranks_of_zero_leave_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q Q0 b 0 1.0 t\nq Q0 c 0 1.0 t\nq Q0 a 0 2.0 t\n")
    assert [hit.doc_id for hit in read_run(path)["q"]] == ["a", "c", "b"]
    assert [hit.doc_id for hit in read_run(path, ties="file")["q"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("0:1 Q0 3:7 1 0.75 run 6\n0:1 Q0 3:2 2 0.5 run 6\n0:2 Q0 3:7 1 0.25 run 6\n", (0.75, 0.5, 0.25)),
        ("0:1\tQ0\t3:7\t0\t0.75\trun\t6\n0:1\tQ0\t3:2\t0\t0.5\trun\t6\n0:2\tQ0\t3:7\t0\t0.25\trun\t6\n", (0.75, 0.5, 0.25)),
        ("0:1\t3:2\t2\n0:1\t3:7\t1\n0:2\t3:7\t1\n", (-1, -2, -1)),
        ("0:1 Q0 3:7 0 0.75 t\n0:1 Q0 3:2 0 0.5 t\n0:2 Q0 3:7 0 0.25 t\n", (0.75, 0.5, 0.25)),
    ],
    ids=["uniir", "uniir in tabs", "ms marco", "ranks of zero"],
)  # fmt: skip
def test_every_layout_of_a_run_is_read_and_written_as_trec(tmp_path: Path, text: str, scores: tuple) -> None:
    path = tmp_path / "run.txt"
    path.write_text(text)
    run = read_run(path)
    a, b, c = scores
    assert run == {"0:1": [Hit("3:7", a), Hit("3:2", b)], "0:2": [Hit("3:7", c)]}
    write_run(path, [Ranking(query_id, tuple(hits)) for query_id, hits in run.items()], tag="t")
    lines = [f"0:1 Q0 3:7 1 {a:g} t", f"0:1 Q0 3:2 2 {b:g} t", f"0:2 Q0 3:7 1 {c:g} t"]
    assert path.read_text().splitlines() == lines


@pytest.mark.parametrize("score", [float("nan"), -1e300, float("-inf")])
def test_a_score_that_no_run_can_hold_is_named(tmp_path: Path, score: float) -> None:
    with pytest.raises(DataError, match=r"the score .* of document 'd' for query 'q' cannot stand in a run"):
        write_run(tmp_path / "run.trec", [Ranking("q", (Hit("d", score),))])
    write_run(tmp_path / "run.trec", [Ranking("q", (Hit("d", 1e300), Hit("e", float("inf"))))])
    assert [hit.doc_id for hit in read_run(tmp_path / "run.trec")["q"]] == ["d", "e"]


def test_ties_across_a_cut_off_are_counted() -> None:
    run = {
        "a": [Hit("x", 2.0), Hit("y", 1.0), Hit("z", 1.0 + 1e-9)],
        "b": [Hit("x", 1.0), Hit("y", 1.0)],
        "c": [Hit("x", 1.0)],
    }
    assert [ties_across(run, [*run, "absent"], k) for k in (1, 2, 3, 999_999_999)] == [1, 1, 0, 0]
    assert ties_across(run, ["a"], 1) == 0


def test_the_score_command_tells_of_ties(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, other, out = tmp_path / "run.trec", tmp_path / "other.trec", tmp_path / "out.json"
    run.write_text("q Q0 b 1 1.0 t\nq Q0 c 2 1.0 t\n")
    other.write_text("q Q0 b 1 1.0 t\nq Q0 c 2 0.9 t\n")
    write_qrels(tmp_path / "qrels", {"q": {"b": 1}})
    words = ["score", str(run), str(tmp_path / "qrels"), "--metrics", "S@1", "MAP", "--json", str(out)]
    assert main([*words, "--compare", str(other)]) == 0
    said = capsys.readouterr().out
    line = (
        "run.trec: equal scores stand across a cut-off (at 1 in 1 queries) and are ranked by descending document id as in "
        "trec_eval; --ties file keeps the order of the file"
    )
    assert line in said
    assert "other.trec: equal" not in said
    found = json.loads(out.read_text())
    assert found["ties"] == {"run.trec": {"1": 1}, "other.trec": {}}
    assert found["queries"] == {
        "run.trec": {"q": {"S@1": 0, "MAP": 0.5}},
        "other.trec": {"q": {"S@1": 1, "MAP": 1}},
    }
    assert main([*words, "--ties", "file"]) == 0
    assert (
        "across a cut-off (at 1 in 1 queries) and are ranked by the order of the file\n"
        in capsys.readouterr().out
    )
    assert json.loads(out.read_text())["queries"]["run.trec"]["q"] == {"S@1": 1, "MAP": 1}
