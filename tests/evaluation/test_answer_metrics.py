"""Scores of answers: the official soft accuracy against its definition and published values, its bound, EM and F1."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.data.answers import read_annotations
from gemkr.errors import DataError
from gemkr.evaluation.answer_metrics import (
    exact_match,
    listed_accuracy,
    score_answers,
    token_f1,
    votes_of,
    vqa_accuracy,
)
from gemkr.text.answers import vqa_form
from gemkr.types import Answer, Query

WORDS = st.sampled_from(["pony tail", "ponytail", "braid", "The braid.", "two", "2", ""])


def by_definition(answer: str, votes: list[str]) -> float:
    """The VQA challenge's words: min(humans that said it / 3, 1), averaged over all 10 choose 9 sets of humans."""
    sets = list(combinations(votes, len(votes) - 1))
    said = [sum(vqa_form(vote) == vqa_form(answer) for vote in people) for people in sets]
    return sum(min(n / 3, 1) for n in said) / len(sets)


@pytest.mark.parametrize(("matching", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_the_published_values(matching: int, score: float) -> None:
    votes = ["braid"] * matching + [f"other {i}" for i in range(10 - matching)]
    assert vqa_accuracy("The braid.", votes) == pytest.approx(score)
    assert by_definition("braid", votes) == pytest.approx(score)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=12))
def test_the_accuracy_is_its_definition(answer: str, votes: list[str]) -> None:
    assert vqa_accuracy(answer, votes) == pytest.approx(by_definition(answer, votes))


@given(WORDS, st.lists(WORDS, min_size=5, max_size=5))
def test_what_is_listed_bounds_the_accuracy_from_below(answer: str, people: list[str]) -> None:
    """OK-VQA counts each of its five annotators twice."""
    official = vqa_accuracy(answer, people * 2)
    assert listed_accuracy(answer, dict.fromkeys(people)) <= official + 1e-12
    assert (listed_accuracy(answer, people) == 0) == (official == 0)


def test_exact_match_and_f1() -> None:
    assert exact_match("The Eiffel Tower!", ["big ben", "eiffel tower"]) == 1.0
    assert exact_match("eiffel", ["eiffel tower"]) == 0.0
    assert token_f1("the eiffel tower", ["Eiffel Tower in Paris", "tower"]) == pytest.approx(2 * 2 / (2 + 4))
    assert token_f1("red red fox", ["red fox"]) == pytest.approx(2 * 2 / (3 + 2))
    assert token_f1("the", ["a"]) == 1.0
    assert token_f1("the", ["fox"]) == 0.0
    assert token_f1("fox", []) == 0.0


def answer(query_id: str, text: str) -> Answer:
    return Answer(query_id, text, None, -1.0)


def test_scores_are_official_only_where_every_annotator_is_known() -> None:
    full = Query("1", "what?", answers=("ski",) * 4 + ("skis",) * 6)
    short = Query("2", "what?", answers=("tea", "coffee"))
    told = {"1": answer("1", "skis"), "2": answer("2", "tea")}
    alone = score_answers(told, [full], votes_of([full]))
    assert list(alone.values) == ["VQA", "EM", "F1"]
    assert alone.mean("VQA") == 1.0
    both = score_answers(told, [full, short, Query("3", "no answers known?")], votes_of([full, short]))
    assert both.query_ids == ("1", "2")
    assert both.values["VQA_low"].tolist() == [pytest.approx(0.6)] * 2
    missing = score_answers({}, [short])
    assert (missing.mean("EM"), missing.missing) == (0.0, ("2",))


def test_annotations_give_the_votes(tmp_path: Path) -> None:
    file = tmp_path / "notes.json"
    votes = [{"answer": "braid", "answer_id": i} for i in range(3)] + [{"answer": "bun"}] * 7
    file.write_text(json.dumps({"annotations": [{"question_id": 7, "answers": votes}]}))
    query = Query("7", "hair?", answers=("bun", "braid"))
    known = votes_of([query], read_annotations(file))
    assert score_answers({"7": answer("7", "Braid")}, [query], known).mean("VQA") == pytest.approx(0.9)
    with pytest.raises(DataError, match="holds no answers to the query '8'"):
        votes_of([Query("8", "hair?")], read_annotations(file))
    file.write_text(json.dumps({"annotations": [{"question_id": 7}]}))
    with pytest.raises(DataError, match="annotation 0 lacks 'question_id' or 'answers'"):
        read_annotations(file)
    file.write_text("[]")
    with pytest.raises(DataError, match="holds no list 'annotations'"):
        read_annotations(file)


def test_queries_without_answers_cannot_be_scored() -> None:
    with pytest.raises(DataError, match="none of the queries has an answer to compare with"):
        score_answers({"1": answer("1", "x")}, [Query("1", "what?")])
