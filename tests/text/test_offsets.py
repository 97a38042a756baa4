"""Offsets from tokens alone are those of `encode_with_offsets`, wherever tokens spell the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_text import TEXTS, train_byte_level, train_sentencepiece

from gemkr.text.offsets import TokenOffsets
from gemkr.text.tokenizer import Tokenizer, load_tokenizer, text_read

WRITTEN = st.one_of(
    st.sampled_from([*TEXTS, "", "猫 in 北京", "here👍🏽 x\u0302 नी"]),
    st.text(max_size=30),
    st.text("the owl né猫👍\u0301", max_size=40),
)
"""Most characters are not in the vocabularies, so that tokens are parts of them."""


@pytest.fixture(scope="module", params=["pieces", "bytes"])
def tokenizer(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("vocabulary")
    if request.param == "bytes":
        return load_tokenizer(train_byte_level(folder / "bytes"))
    return load_tokenizer(train_sentencepiece(folder / "toy.model"))


def test_equal_those_of_tokenizing(tokenizer: Tokenizer) -> None:
    offsets = TokenOffsets(tokenizer)
    spelled = []

    @settings(max_examples=300, deadline=None)
    @given(WRITTEN)
    def agree(written: str) -> None:
        text = text_read(tokenizer, written)
        ids, expected = tokenizer.encode_with_offsets(text)
        (found,) = starts_of(offsets, (ids, text))
        spelled.append(found is not None)
        if found is not None:
            np.testing.assert_array_equal(found, expected)

    agree()
    assert np.mean(spelled) > 0.9


def test_none_for_tokens_of_another_text(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("the owl")
    offsets = TokenOffsets(tokenizer)
    others = ("the awl", "the ow", "the owls", "The owl", "")
    asked = [
        (tokens, "the owl"),
        *((tokens, other) for other in others),
        ([], ""),
        ([tokenizer.vocab_size], "the owl"),
    ]
    found = [
        None if starts is None else starts.tolist()
        for starts in starts_of(offsets, *asked, (tokens, "the owl"))
    ]
    assert found[0] == found[-1] == tokenizer.encode_with_offsets("the owl")[1].tolist()
    assert found[1:-1] == [None] * len(others) + [[0], None]


def starts_of(offsets: TokenOffsets, *texts: tuple[Sequence[int], str]) -> list[np.ndarray | None]:
    ends = np.cumsum([0, *(len(tokens) for tokens, _ in texts)], dtype=np.int64)
    tokens = np.array([token for tokens, _ in texts for token in tokens], dtype=np.int64)
    return list(offsets.starts(tokens, ends, [text for _, text in texts]))
