"""Normal forms of answers, against examples worked out by hand from the published rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.text.answers import CONTRACTIONS, squad_form, vqa_form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The Dog.", "dog"),
        ("a  pair of\tskis\n", "pair of skis"),
        ("two", "2"),
        ("None", "0"),
        ("ten dollars", "10 dollars"),
        ("twenty", "twenty"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),
        ("couldn'tve", "couldn't've"),
        ("oclock", "o'clock"),
        ("Somebody'd", "somebodyd"),
        ("t-shirt", "t shirt"),
        ("black/white", "black white"),
        ("yes, sir", "yes sir"),
        ("yes,sir", "yes sir"),
        ("1,000", "1000"),
        ("1,000-2,000", "10002000"),
        ("3.5 ft.", "3.5 ft"),
        ("p.m.", "pm"),
        ("9 a.m", "9 am"),
        ("what?!", "what"),
        ("the", ""),
        ("it's", "it's"),
        ("1940's", "1940's"),
    ],
)
def test_the_form_of_the_vqa_evaluation(text: str, form: str) -> None:
    assert vqa_form(text) == form


def test_every_contraction_is_found_without_one_of_its_apostrophes() -> None:
    for word in CONTRACTIONS:
        for at, char in enumerate(word):
            if char == "'":
                assert vqa_form(word[:at] + word[at + 1 :]) == word
        assert vqa_form(word) == word


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The  U.S. Army!", "us army"),
        ("an apple, a pear", "apple pear"),
        ("theatre", "theatre"),
        ("well-known", "wellknown"),
        ("A.", ""),
    ],
)
def test_the_form_of_squad(text: str, form: str) -> None:
    assert squad_form(text) == form


@given(st.text())
def test_forms_are_stable_words_in_lower_case(text: str) -> None:
    squad = squad_form(text)
    assert squad_form(squad) == squad
    for form in (squad, vqa_form(text)):
        assert form == " ".join(form.split())
    assert not {"a", "an", "the"} & set(vqa_form(text).split())
