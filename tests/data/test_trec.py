"""Runs as files: TREC, JSON lines with evidence, the authors' lists; interrupted runs lose nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gemkr.data.records import RunLog, read_records
from gemkr.data.trec import read_id_lists, read_run, trec_lines, write_run
from gemkr.errors import DataError
from gemkr.fm_index import Span
from gemkr.types import Clue, Evidence, Hit, Ranking


def ranking(query_id: str, *scores: float) -> Ranking:
    hits = tuple(
        Hit(f"d{i}", score, (Evidence("a clue", -0.5, 3, 5),) if i == 0 else ())
        for i, score in enumerate(scores)
    )
    return Ranking(query_id, hits, (Clue((4, 7), "a clue", -0.5, -0.3, Span(2, 9, 2)),))


def test_round_trip_keeps_the_order_of_ties(tmp_path: Path) -> None:
    write_run(tmp_path / "run.trec", [ranking("q1", 2.0, 2.0, 2.5, -1.0), ranking("q2", 0.0, 0.0)])
    run = read_run(tmp_path / "run.trec")
    assert [hit.doc_id for hit in run["q1"]] == ["d0", "d1", "d2", "d3"]
    scores = [hit.score for hit in run["q1"]]
    assert scores == sorted(set(scores), reverse=True)
    assert scores[0] == 2.0
    assert [hit.doc_id for hit in run["q2"]] == ["d0", "d1"]


def test_the_reader_sorts_by_score(tmp_path: Path) -> None:
    path = tmp_path / "run.trec"
    path.write_text("q Q0 low 1 0.5 t\nq Q0 high 2 0.9 t\nr Q0 x 1 1 t\nq Q0 also 3 0.5 t\n")
    assert [hit.doc_id for hit in read_run(path)["q"]] == ["high", "low", "also"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "q Q0 d 1 0.5\n",
            ":1: the row has 5 columns, a run has 6 (query, Q0, document, rank, score, tag), UniIR's a",
        ),
        ("q Q0 d 1 0.5 t\nq Q0 e 2 0.4 t 3\n", ":2: the row has 7 columns, the first one has 6; a run has 6"),
        ("q d 1\nq e one\n", ":2: the rank 'one' must be an integer"),
        ("query-id\tcorpus-id\tscore\nq\td\t1\n", ":1: the rank 'score' must be an integer"),
        ("q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n", ":2: document 'd' stands twice"),
        ("q Q0 d one 0.5 t\n", ":1: the rank 'one'"),
        (
            "q Q0 d 1 0.5 t\nq Q0 e 2 nan t\n",
            ":2: the rank '2' must be an integer and the score 'nan' a finite",
        ),
        ("q Q0 d 1 -inf t\n", "the score '-inf' a finite number"),
        ("", "holds no hit"),
    ],
)
def test_bad_runs_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_run(path)


def test_ids_with_white_space_cannot_be_written() -> None:
    with pytest.raises(DataError, match="'two words'"):
        trec_lines(Ranking("q", (Hit("two words", 1.0),)))


def test_the_authors_lists(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps([[5, 7, 5], ["9"]]))
    run = read_id_lists(path, ["a", "b"])
    assert run["a"] == [Hit("5", -1.0), Hit("7", -2.0)]
    assert run["b"] == [Hit("9", -1.0)]
    with pytest.raises(DataError, match="holds 2 lists of documents for 3 queries"):
        read_id_lists(path, ["a", "b", "c"])
    path.write_text(json.dumps([[5], ["two words"]]))
    with pytest.raises(
        DataError, match=r"results\.json: list 1: the document id 'two words' holds white space"
    ):
        read_id_lists(path, ["a", "b"])


def test_records_round_trip(tmp_path: Path) -> None:
    written = [ranking("q1", 2.0, 1.0), Ranking("q2", ())]
    (clue,) = written[0].clues
    written.append(Ranking("q3", (), (clue, replace(clue, count=2))))
    with RunLog(tmp_path) as log:
        for each in written:
            log.append(each)
    assert list(read_records(tmp_path / "run.jsonl")) == written


def test_one_process_at_a_time_writes_a_run(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.append(ranking("q1", 1.0))
        for restart in (False, True):
            with pytest.raises(DataError, match=f"another process is writing into {tmp_path}; wait"):
                RunLog(tmp_path, restart=restart)
        log.append(ranking("q2", 1.0))
    with RunLog(tmp_path) as log:
        assert log.done == {"q1", "q2"}
    (tmp_path / "run.jsonl").write_text("broken\n")
    for _ in range(2):
        with pytest.raises(DataError, match=r"run\.jsonl:1"):
            RunLog(tmp_path)
    with RunLog(tmp_path, restart=True) as log:
        assert log.done == set()


def test_of_a_query_recorded_twice_the_last_record_counts(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        for query_id, score in (("q1", 1.0), ("q2", 2.0), ("q1", 3.0)):
            log.append(ranking(query_id, score))
    with RunLog(tmp_path) as log:
        assert log.done == {"q1", "q2"}
    run = read_run(tmp_path / "run.trec")
    assert {query_id: [hit.score for hit in hits] for query_id, hits in run.items()} == {
        "q1": [3.0],
        "q2": [2.0],
    }


def test_a_run_killed_in_the_middle_of_a_line_goes_on(tmp_path: Path) -> None:
    with RunLog(tmp_path) as log:
        log.append(ranking("q1", 1.0))
        log.append(ranking("q2", 1.0))
    records = tmp_path / "run.jsonl"
    records.write_bytes(records.read_bytes()[:-20])
    (tmp_path / "run.trec").write_text("q1 Q0 d0 1 1 gemkr\nq2 Q0 d0")
    with RunLog(tmp_path) as log:
        assert log.done == {"q1"}
        log.append(ranking("q2", 3.0))
    assert [r.query_id for r in read_records(records)] == ["q1", "q2"]
    assert {q: [h.score for h in hits] for q, hits in read_run(tmp_path / "run.trec").items()} == {
        "q1": [1.0],
        "q2": [3.0],
    }
