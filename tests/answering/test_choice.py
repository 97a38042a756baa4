"""Adding up what passages say: by hand, and against a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.answering.choice import OTHERS, WIDEST, choose, rank_weights
from gemkr.text.answers import vqa_form


def test_two_passages_outvote_a_surer_one() -> None:
    chances = np.array([[0.70, 0.20, 0.05], [0.05, 0.30, 0.25], [0.01, 0.30, 0.29]])
    choice = choose(
        ["fox", "a hen", "Hen"], np.log(chances), np.full(3, 1 / 3), lambda text: np.array([0, 1, 1])
    )
    assert choice.text == "a hen"
    assert math.exp(choice.log_prob) == pytest.approx((0.25 + 0.55 + 0.59) / 3)
    assert choice.shares == pytest.approx(np.array([0.25, 0.55, 0.59]) / 1.39)
    assert choice.others == (("fox", pytest.approx(math.log(0.76 / 3))),)
    assert choice.features["agreement"] == pytest.approx(2 / 3)
    assert choice.features["held"] == pytest.approx(2 / 3)
    assert choice.features["margin"] == pytest.approx(math.log(1.39 / 0.76))
    assert choice.features["words"] == 2


def test_one_answer_alone() -> None:
    choice = choose(["fox"], np.log([[0.5]]), rank_weights(1, 1.0), lambda text: np.zeros(1))
    assert (choice.text, choice.others, choice.features["margin"]) == ("fox", (), WIDEST)
    assert choice.features["agreement"] == 1.0


def test_a_passage_that_says_nothing_does_not_agree() -> None:
    """Clues that a passage does not hold have no probability there."""
    with np.errstate(divide="ignore"):
        log_probs = np.log([[0.5, 0.1], [0.0, 0.0], [0.0, 0.4]])
    choice = choose(["fox", "hen"], log_probs, np.full(3, 1 / 3), lambda text: np.zeros(3))
    assert (choice.text, choice.features["agreement"]) == ("fox", pytest.approx(1 / 3))


def test_weights_fall_with_the_rank() -> None:
    assert rank_weights(3, 0.0) == pytest.approx(np.full(3, 1 / 3))
    assert rank_weights(3, 1.0) == pytest.approx(np.array([6, 3, 2]) / 11)


TEXTS = st.lists(
    st.sampled_from(["fox", "Fox", "the fox", "hen", "2", "two", "?"]), min_size=1, max_size=5, unique=True
)


@given(st.data(), TEXTS)
def test_the_choice_is_that_of_a_plain_loop(data: st.DataObject, texts: list[str]) -> None:
    k = data.draw(st.integers(1, 4))
    chances = np.array(
        data.draw(
            st.lists(
                st.lists(st.floats(1e-30, 1), min_size=len(texts), max_size=len(texts)),
                min_size=k,
                max_size=k,
            )
        )
    )
    weights = rank_weights(k, 1.0)
    totals: dict[str, float] = {}
    for passage in range(k):
        for column, text in enumerate(texts):
            form = vqa_form(text) or text
            totals[form] = totals.get(form, 0.0) + weights[passage] * chances[passage, column]
    choice = choose(texts, np.log(chances), weights, lambda text: np.zeros(k))
    form = vqa_form(choice.text) or choice.text
    assert totals[form] == pytest.approx(max(totals.values()))
    assert math.exp(choice.log_prob) == pytest.approx(totals[form])
    assert choice.shares.sum() == pytest.approx(1)
    assert len(choice.others) == min(len(totals) - 1, OTHERS)
