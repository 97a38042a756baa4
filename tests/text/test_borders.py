"""Where texts may be cut: whole characters, whole words, and the same through tokens that end anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from gemkr.text.borders import NEVER, WORD, borders_of, is_border
from gemkr.text.normalize import normalize

TEXTS = [
    "The naïve owl isn't here; it flies (far).",
    "القِطَّةُ تنامُ هنا",
    "הַחָתוּל יָשֵׁן",
    "แมวนอนหลับอยู่ในบ้านน้ำ",
    "बिल्ली घर में सोती है क्षत्रिय अर्थात् ज्ञान",
    "猫在房子里睡觉。トラはねている",
    "👩‍👩‍👧 👍🏽 🇩🇪🇫🇷 ❤️‍🔥 ok",
    "x̂ + ŷ̄ = z\u0301\u0323",
    "ខ្មែរ ភាសា မြန်မာဘာသာ ລາວ",
    "가나다 \u1112\u119e\u11ab 한국어",
    "தமிழ் மொழி മലയാളം",
]
ALPHABET = sorted(set("".join(TEXTS)))
SPACELESS = regex.compile(
    r"[\p{L}\p{M}&&[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]]", regex.V1
)


_WITHOUT_SPACES = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
BOUND = regex.compile(
    rf"\u094d\p{{M}}*[\p{{L}}&&{_WITHOUT_SPACES}]|[[\p{{L}}\p{{N}}_]--{_WITHOUT_SPACES}]\p{{M}}*[\p{{M}}&&{_WITHOUT_SPACES}]",
    regex.V1,
)
"""What no text has: a virama of Devanagari before a letter of a script without spaces (Unicode binds some), and a mark of such a script on
a letter of another, which a token that begins after the letter cannot know."""


def characters_end(text: str) -> set[int]:
    """The places between the characters of a text, by Unicode's grapheme clusters."""
    return {0, *(found.end() for found in regex.finditer(r"\X", text))}


def words_end(text: str) -> set[int]:
    """The places between characters that do not part the letters of a word, by Unicode's properties."""
    found = set()
    ends = sorted(characters_end(text))
    for before, at, after in zip(ends, ends[1:], [*ends[2:], len(text)]):
        left, right = text[before:at], text[at:after]
        parted = regex.match(r"[\p{Alphabetic}\p{N}_]", left) and regex.match(
            r"[\p{Alphabetic}\p{N}_]", right
        )
        if not parted or SPACELESS.match(left) or SPACELESS.match(right):
            found.add(at)
    return {0, len(text), *found}


class Chunks:
    """A tokenizer whose tokens are given bytes."""

    unk_id = None
    special_ids: frozenset[int] = frozenset()

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks, self.vocab_size = chunks, len(chunks)

    def piece_bytes(self, token: int) -> bytes:
        return self.chunks[token]


@pytest.mark.parametrize("text", TEXTS)
def test_words_end_between_characters(text: str) -> None:
    text = normalize(text)
    found = {at for at in range(len(text) + 1) if is_border(text, at)}
    assert found <= characters_end(text)
    assert found <= words_end(text)
    latin = {at for at in words_end(text) if at in (0, len(text)) or text[at] == " "}
    assert latin <= found


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("naïve city", {0, 5, 6, 10}),
        ("isn't", {0, 3, 4, 5}),
        ("猫在睡", {0, 1, 2, 3}),
        ("ABC猫", {0, 3, 4}),
        ("น้ำ", {0, 3}),
        ("ไป", {0, 1, 2}),
        ("हिंदी", {0, 5}),
        ("👩\u200d🚀!", {0, 3, 4}),
        ("a_b 1", {0, 3, 4, 5}),
    ],
)
def test_known_borders(text: str, ends: set[int]) -> None:
    assert {at for at in range(len(text) + 1) if is_border(text, at)} == ends


def test_strings_that_no_text_has_are_passed_over() -> None:
    assert BOUND.search(";\u00ef\u0902\u0902\u102cT")
    assert not any(BOUND.search(normalize(text)) for text in TEXTS)


@given(st.text(st.sampled_from(ALPHABET), min_size=1, max_size=12), st.data())
def test_tokens_end_where_their_text_may(text: str, data: st.DataObject) -> None:
    """Cut into tokens anywhere, inside characters too, no border is where the text has none; at whole characters, all are."""
    text = normalize(text)
    if not text or BOUND.search(text):
        return
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(raw) - 1)))))
    chunks = [raw[i:j] for i, j in zip([0, *cuts], [*cuts, len(raw)]) if i < j]
    of_byte = {len(text[:at].encode()): at for at in range(len(text) + 1)}
    tokens = Chunks(chunks)
    words, characters = (borders_of(tokens, len(chunks), words=way) for way in (True, False))
    place, whole = 0, characters_end(text)
    for i in range(len(chunks) - 1):
        begin, place = place, place + len(chunks[i])
        if words.last[i] * words.first[i + 1] > WORD:
            assert is_border(text, of_byte[place])
            assert characters.last[i] * characters.first[i + 1] > WORD
        if characters.last[i] * characters.first[i + 1] > WORD:
            assert of_byte[place] in whole
        if (
            begin in of_byte
            and place in of_byte
            and place + len(chunks[i + 1]) in of_byte
            and text[of_byte[place] - 1] != " "
        ):
            piece = text[of_byte[begin] :]
            alone = is_border(piece, of_byte[place] - of_byte[begin])
            assert (words.last[i] * words.first[i + 1] > WORD) == alone
        if characters.begins[i + 1] and len(chunks[i + 1]) > 3:
            assert place in of_byte


@pytest.mark.parametrize("character", ["\u0301", "\u200d", "\u093e", "🏽", "\ufe0f", "ำ"])
def test_no_clue_begins_with_part_of_a_character(character: str) -> None:
    tokens = Chunks([character.encode(), character.encode()[-1:], b"a", b" ", b"", "猫".encode()[:2]])
    borders = borders_of(tokens, 8, words=True)
    assert borders.begins.tolist() == [False, False, True, True, False, True, False, False]
    assert borders.texts.tolist() == [True, True, True, True, False, True, False, False]
    assert borders.first[0] == borders.first[1] == NEVER


def test_the_bytes_of_pieces_are_those_of_the_text(tmp_path: Path) -> None:
    from toy_text import train_byte_level, train_sentencepiece

    from gemkr.text.tokenizer import load_tokenizer

    for path in (train_sentencepiece(tmp_path / "t.model"), train_byte_level(tmp_path / "bytes")):
        tokenizer = load_tokenizer(path)
        for text in map(normalize, TEXTS):
            assert b"".join(map(tokenizer.piece_bytes, tokenizer.encode(text))).decode() == f" {text}"
        assert tokenizer.piece_bytes(tokenizer.eos_ids[0]) == b""
