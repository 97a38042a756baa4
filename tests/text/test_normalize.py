# ruff: noqa: RUF001
"""One spelling for every text: white space, composition, and places in the text as it was written."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.text.normalize import normalize, normalize_with_offsets

WHITE = "\t\n\v\f\r\x85\xa0\u1680\u2000\u2003\u2009\u2028\u2029\u202f\u205f\u3000 "
MARKED = "e\u0301\u0323\u030a\u0b47\u0b3e\u1100\u1161\u11a8\u09c7\u09be\u212b\u0344\u0fb2\u0f71\u0f80aA\u05d0\u05bc\U000110a5\U000110ba"
ODD_TEXTS = st.text(
    st.one_of(st.sampled_from(WHITE), st.sampled_from(MARKED), st.characters(codec="utf-8")), max_size=30
)


@given(ODD_TEXTS)
def test_single_spaces_bare_ends_and_composed_letters(text: str) -> None:
    normal = normalize(text)
    assert normal == unicodedata.normalize("NFC", " ".join(text.split()))
    assert normalize(normal) == normal
    assert unicodedata.is_normalized("NFC", normal)
    assert normal == normal.strip()
    assert not any(c.isspace() and c != " " for c in normal)
    assert "  " not in normal


@given(ODD_TEXTS)
def test_offsets_lead_back_to_what_was_written(text: str) -> None:
    normal, places = normalize_with_offsets(text)
    assert normal == normalize(text)
    assert places.dtype == np.int32
    assert len(places) == len(normal) + 1
    assert places[-1] == len(text)
    assert (np.diff(places) >= 0).all()
    for i, character in enumerate(normal):
        written = text[places[i] : places[i + 1]]
        if character == " ":
            assert written.isspace()
        elif written:
            assert not written[0].isspace()
    for start in range(len(normal)):
        stop = normal.find(" ", start)
        stop = len(normal) if stop < 0 else stop
        if (start == 0 or normal[start - 1] == " ") and normal[start] != " ":
            assert normalize(text[places[start] : places[stop]]) == normal[start:stop]


@pytest.mark.parametrize("white", WHITE)
def test_every_white_space_is_a_space(white: str) -> None:
    assert normalize(f"{white}the barn owl{white}{white}hunts voles{white}") == "the barn owl hunts voles"


@pytest.mark.parametrize("kept", ["👩\u200d🚀", "a\u200bb", "می\u200cخواهم", "Straße", "ﬁ", "a\ufeffb"])
def test_joiners_case_and_compatibility_letters_stay(kept: str) -> None:
    assert normalize(kept) == kept


def test_the_place_of_a_composed_letter() -> None:
    text = "  cafe\u0301\r\n au  lait "
    normal, places = normalize_with_offsets(text)
    assert normal == "café au lait"
    assert text[places[0] : places[4]] == "cafe\u0301"
    assert text[places[5] : places[7]] == "au"
    assert text[places[8] : places[12]] == "lait "
