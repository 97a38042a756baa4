"""Qrels files and answer relevance in its three kinds."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.data.qrels import (
    MATCHES,
    AnswerMatcher,
    gold_qrels,
    judge_answers,
    merge_ranges,
    read_qrels,
    write_qrels,
)
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.clues import ClueFigures, clue_figures
from gemkr.fm_index import Span
from gemkr.types import Clue, Hit, Query, Ranking


def test_round_trip(tmp_path: Path) -> None:
    qrels = {"q1": {"d1": 1, "d2": 0}, "q2": {"d1": 3}}
    write_qrels(tmp_path / "qrels.txt", qrels)
    assert read_qrels(tmp_path / "qrels.txt") == qrels
    assert [p.name for p in tmp_path.iterdir()] == ["qrels.txt"]


@pytest.mark.parametrize(
    "text",
    [
        "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n",
        "q1\t0\td1\t2\nq1\t0\td2\t0\n\nq2\t0\td1\t1\r\n",
        "q1 0\td1 2\n q1  0\td2\t0\nq2 0 d1 1",
        "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t1\n",
        "corpus-id\tscore\tquery-id\nd1\t2\tq1\nd2\t0\tq1\nd1\t1\tq2\n",
        "qid iter docno rel\nq1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n",
        "q1 0 d1 2 3\nq1 0 d2 0 3\nq2 0 d1 1 3\n",
        "q1\t0\td1\t2\t3\nq1\t0\td2\t0\t3\nq2\t0\td1\t1\t3\n",
    ],
    ids=[
        "trec",
        "ms marco",
        "tabs and spaces",
        "beir",
        "other order",
        "trec with header",
        "m-beir",
        "m-beir tabs",
    ],
)
def test_every_layout_is_read_and_written_as_trec(tmp_path: Path, text: str) -> None:
    path = tmp_path / "qrels.tsv"
    path.write_text(text)
    qrels = read_qrels(path)
    assert qrels == {"q1": {"d1": 2, "d2": 0}, "q2": {"d1": 1}}
    write_qrels(path, qrels)
    assert path.read_text() == "q1 0 d1 2\nq1 0 d2 0\nq2 0 d1 1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 0 d1\n", ":1: the row has 3 columns"),
        ("q1 0 d1 1\nq1 0 d1 0\n", ":2: document 'd1' is judged twice"),
        ("q1 0 d1 yes\n", ":1: the relevance 'yes'"),
        ("q1 0 d\u00a01 1\n", r":1: the document id 'd\xa01' holds white space"),
        (
            "q1 0 d1 1\nq1 0 d2 1 7\n",
            ":2: the row has 5 columns, the first one has 4; qrels have 4 (query, 0,",
        ),
        (
            "query-id\tcorpus-id\tscore\nq\td\n",
            ":2: the row has 2 columns, the first one has 3; qrels have 4",
        ),
        (
            "query-id\tcorpus-id\nq\td\n",
            ":1: the row has 2 columns, qrels have 4 (query, 0, document, relevance), M-BEIR's",
        ),
        ("query-id\tcorpus-id\tscore\n", "hold no judgement"),
        ("\n", "hold no judgement"),
    ],
)
def test_bad_qrels_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_qrels(path)


@pytest.mark.parametrize(
    ("answer", "text", "exact", "lower", "word"),
    [
        ("race", "They race bikes.", True, True, True),
        ("race", "The Race began.", False, True, True),
        ("race", "A racer fell; grace.", True, True, False),
        ("race", "a racer won the race", True, True, True),
        ("c++", "written in C++.", False, True, True),
        ("1990", "in 19905", True, True, False),
        ("new york", "New York City", False, True, True),
        ("bike race", "a Bike-race, again", False, False, True),
        ("bike race", "a bike racer", True, True, False),
        ("cat", "con_cat_x", True, True, False),
        ("istanbul", "İİ Istanbul", False, True, True),
        ("ΟΔΟΣ", "η ΟΔΟΣ", True, True, True),
        ("ΟΔΟΣ", "İ η ΟΔΟΣ", True, True, True),
        ("οδος", "İΟΔΟΣ, η ΟΔΟΣ", False, True, True),
    ],
)
def test_the_three_kinds_of_match(answer: str, text: str, exact: bool, lower: bool, word: bool) -> None:
    verdicts = [AnswerMatcher([answer], match).matches(text) for match in ("exact", "lower", "word")]
    assert verdicts == [exact, lower, word]


def test_find_gives_ranges_of_the_original_text() -> None:
    text = "İ: the Race, a racer and RACE horses"
    found = AnswerMatcher(["race", "race horses"], "word").find(text)
    assert [text[start:stop] for start, stop in found] == ["Race", "RACE horses"]


@given(
    st.lists(st.sampled_from(["sun", "Sun", "flower", "s", " ", "-", "'", "_", "ß", "İ", "."]), max_size=12)
)
def test_matches_and_find_agree(parts: list[str]) -> None:
    text = "".join(parts)
    for match in MATCHES:
        matcher = AnswerMatcher(["sun", "sun flower", "'"], match)
        found = matcher.find(text)
        assert bool(found) == matcher.matches(text)
        assert all(0 <= start < stop <= len(text) for start, stop in found)


def test_blank_answers_match_nothing() -> None:
    assert not AnswerMatcher(["", "  "], "word")
    assert not AnswerMatcher([" "], "exact").matches("anything")


def test_unknown_match_is_an_error() -> None:
    with pytest.raises(ConfigError, match="exact, lower, word"):
        AnswerMatcher(["a"], "fuzzy")


def test_judging_a_run() -> None:
    queries = [
        Query("1", "q", answers=("Paris",)),
        Query("2", "q", answers=()),
        Query("3", "q", answers=("x",)),
    ]
    texts = {"a": "in paris", "b": "Parisian"}.__getitem__
    run = {"1": [Hit("a", 2), Hit("b", 1)], "2": [Hit("a", 1)]}
    assert judge_answers(run, queries, texts, "word") == {"1": {"a": 1, "b": 0}, "3": {}}
    assert judge_answers(run, queries, texts, "exact")["1"] == {"a": 0, "b": 1}
    with pytest.raises(DataError, match="no query has an answer"):
        judge_answers(run, queries[1:2], texts, "word")


def test_gold_documents() -> None:
    assert gold_qrels([Query("1", "q", positives=("a", "b")), Query("2", "q")]) == {"1": {"a": 1, "b": 1}}


def test_merge_ranges() -> None:
    assert merge_ranges([(5, 7), (0, 2), (2, 3), (6, 9)]) == [(0, 3), (5, 9)]


def test_judging_25000_documents_takes_seconds() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 15
    queries = [Query(str(i), "q", answers=("motorcycle", "bike race", "racing", "race")) for i in range(2500)]
    texts = {str(i): text for i in range(10)}
    run = {query.query_id: [Hit(doc, 1.0) for doc in texts] for query in queries}
    start = time.process_time()
    judge_answers(run, queries, texts.__getitem__, "word")
    assert time.process_time() - start < 5


def test_figures_of_clues() -> None:
    def clue(text: str, log_prob: float, count: int) -> Clue:
        return Clue((1,) * len(text.split()), text, log_prob, 0.0, Span(0, count, 1))

    rankings = {
        "1": Ranking("1", (), (clue("the races", -1.0, 4), clue("a race", -2.0, 2))),
        "2": Ranking("2", (), (clue("race", -0.1, 6),)),
        "3": Ranking("3", ()),
    }
    queries = [Query(q, "?", answers=("race",)) for q in "123"] + [Query("unanswered", "?")]
    figures = clue_figures(rankings, queries, "word")
    assert figures == ClueFigures(1.0, 2 / 3, 2 / 3, 1 / 3, 5 / 3, 4.0)
    assert "66.7 % of the clues" in str(figures)
    assert clue_figures({"3": rankings["3"]}, queries, "word") is None
