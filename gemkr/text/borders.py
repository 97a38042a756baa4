"""Where a text may be cut: between characters, and between words; the same for characters of a text and for tokens.

A character here is what a person calls one: a letter with its marks, an emoji with its joiners. Words end beside white
space, punctuation and symbols, and at any character of a script that is written without spaces. Knows no index.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gemkr.text.tokenizer import Tokenizer

NEVER, WORD, FREE = 0, 1, 2
"""On either side of a cut: nothing may be cut here; a letter of a word, which must not be cut from another; anything else.
So a cut between a and b is a border where last(a) * first(b) > WORD."""
SPACELESS = (
    "CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA",
    "BOPOMOFO", "YI SYLLABLE", "THAI", "LAO", "KHMER", "MYANMAR", "TAI", "NEW TAI",
)  # fmt: skip
"""How the Unicode names of letters begin whose scripts put no spaces between words."""
JOINERS = frozenset("\u200c\u200d\u2060\ufeff\u034f\u17d2\u1039\u1a60")
"""Characters that bind the next one: joiners, and the signs that put a consonant below the one before."""
_PARTS = frozenset(
    chr(code)
    for codes in (
        (0x0E33, 0x0EB3),  # Thai and Lao AM
        range(0x1160, 0x1200),  # vowels and final consonants of old Korean syllables
        range(0xD7B0, 0xD7FC),
        range(0x1F1E6, 0x1F200),  # the letters of flags
        range(0x1F3FB, 0x1F400),  # skin tones
    )
    for code in codes
)
"""No marks by category, but parts of the character before."""
_VIRAMA = 9
"""The canonical combining class of the signs that take a consonant's vowel away."""


@dataclass(frozen=True, slots=True)
class Borders:
    """Where clues may begin and end, token by token.

    `first` and `last`, int8[V]: NEVER, WORD or FREE for what a token begins and ends with. A clue whose last token is `a` may
    end before the token `b` where `last[a] * first[b] > WORD`, and where a document ends. It begins with a token of `begins`,
    bool[V], and holds only tokens of `texts`, bool[V]: the unknown token and other special ones stand for no text.
    """

    first: np.ndarray
    last: np.ndarray
    begins: np.ndarray
    texts: np.ndarray

    def after(self, token: int) -> np.ndarray:
        """bool[V]: the tokens before which a clue may end whose last token is `token`."""
        return self.last[token] * self.first > WORD


def borders_of(tokenizer: Tokenizer, vocab_size: int, *, words: bool) -> Borders:
    """The borders of characters or, with `words`, of words, for a vocabulary of at least `vocab_size` tokens. No word ends behind
    white space.

    The unknown token may be part of a word. A token may end inside a character, or finish one that began before: then all
    characters that may come of it are considered, and the one that is cut least decides. Cost: a few µs a token.
    """
    size = max(vocab_size, tokenizer.vocab_size)
    first, last = np.zeros(size, dtype=np.int8), np.zeros(size, dtype=np.int8)
    begins, texts = np.zeros(size, dtype=bool), np.zeros(size, dtype=bool)
    for token in range(tokenizer.vocab_size):
        text = tokenizer.piece_bytes(token)
        if text:
            first[token], last[token] = _first(text), _last(text, words)
            begins[token], texts[token] = _may_begin(text), True
    if tokenizer.unk_id is not None:
        first[tokenizer.unk_id] = WORD
    return Borders(first, last, begins, texts)


def is_border(text: str, at: int) -> bool:
    """Whether a word (and a character) may end before `text[at]`; 0 and `len(text)` are borders."""
    if at <= 0 or at >= len(text):
        return True
    return last_class(text, at) * first_class(text[at]) > WORD


@lru_cache(maxsize=1 << 16)
def first_class(character: str) -> int:
    """What a cut before this character has on its right."""
    category = unicodedata.category(character)
    if category[0] == "M" or character in _PARTS or (category == "Cf" and character != "\u200b"):
        return NEVER
    if (character.isalnum() or character == "_") and not _is_spaceless(character):
        return WORD
    return FREE


def last_class(text: str, at: int) -> int:
    """What a cut at `at` > 0 has on its left: the class of the character there, marks looked through; NEVER after a joiner, and
    no more than WORD where a virama is among the marks, which binds the next consonant."""
    if text[at - 1] in JOINERS:
        return NEVER
    most = WORD if _ends_bound(text, at) else FREE
    while at > 1 and first_class(text[at - 1]) == NEVER:
        at -= 1
    base = text[at - 1]
    return min(most, first_class(base) or (FREE if _is_spaceless(base) else WORD))


def _ends_bound(text: str, at: int) -> bool:
    """Whether a virama is among the marks before `at` > 0."""
    while at > 0 and first_class(text[at - 1]) == NEVER:
        if unicodedata.combining(text[at - 1]) == _VIRAMA:
            return True
        at -= 1
    return False


def _is_spaceless(character: str) -> bool:
    """Whether a letter, or a mark on one, is of a script that puts no spaces between words."""
    return unicodedata.category(character)[0] in "LM" and unicodedata.name(character, "").startswith(
        SPACELESS
    )


def _first(text: bytes) -> int:
    """The class of what a token begins with; NEVER where it begins inside a character."""
    size = _size(text[0])
    if len(text) < size:
        return _first_of_part(text)
    return first_class(text[:size].decode()) if size else NEVER


@lru_cache(maxsize=1 << 12)
def _first_of_part(head: bytes) -> int:
    """The least class of all characters whose bytes begin so."""
    if head[0] > 0xF0:
        return NEVER  # tags, private use, nothing
    least = FREE
    for character in _completions(head):
        least = min(least, first_class(character))
        if least == NEVER:
            break
    return least


def _last(text: bytes, words: bool) -> int:
    """The class of what a token ends with; of a character that began before the token, the least possible."""
    start = len(text) - 1
    while start > 0 and not _size(text[start]):
        start -= 1
    size = _size(text[start])
    if not size:
        if _may_be_rest(text, JOINERS):
            return NEVER
        return WORD if words or _may_be_rest(text, _viramas()) else FREE
    if len(text) - start < size:
        return WORD  # inside a character: the bytes that follow forbid an end
    whole = text.decode(errors="ignore")
    if words:
        return NEVER if whole[-1].isspace() else last_class(whole, len(whole))
    return NEVER if whole[-1] in JOINERS else WORD if _ends_bound(whole, len(whole)) else FREE


def _may_be_rest(rest: bytes, characters: frozenset[str]) -> bool:
    """Whether bytes are the end of one of the characters, but not its beginning."""
    return any(character.encode()[1:].endswith(rest) for character in characters)


@lru_cache(maxsize=1)
def _viramas() -> frozenset[str]:
    """The signs that take a consonant's vowel away, so that the next consonant joins it."""
    blocks = (range(0x0900, 0x1D00), range(0xA800, 0xAC00), range(0x10A00, 0x12000))
    return frozenset(chr(c) for block in blocks for c in block if unicodedata.combining(chr(c)) == _VIRAMA)


def _may_begin(text: bytes) -> bool:
    """Whether a clue may begin with a token: with no rest of a character, and no mark or joiner, as far as the token tells."""
    size = _size(text[0])
    return size > 0 and (len(text) < size or first_class(text[:size].decode()) != NEVER)


def _size(byte: int) -> int:
    """How many bytes a character has that begins with this one; 0 for the bytes inside of characters."""
    return (
        1
        if byte < 0x80
        else 2
        if 0xC2 <= byte < 0xE0
        else 3
        if 0xE0 <= byte < 0xF0
        else 4
        if 0xF0 <= byte < 0xF5
        else 0
    )


def _completions(head: bytes) -> Iterator[str]:
    """All assigned characters whose bytes begin with `head`."""
    missing = _size(head[0]) - len(head)
    code = head[0] & (0x7F >> _size(head[0]))
    for byte in head[1:]:
        code = code << 6 | byte & 0x3F
    for each in range(code << 6 * missing, min(code + 1 << 6 * missing, 0x110000)):
        if not 0xD800 <= each < 0xE000 and unicodedata.category(chr(each)) != "Cn":
            yield chr(each)
