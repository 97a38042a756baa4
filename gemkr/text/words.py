"""Which tokens break words, and which are equal up to case: for the heads of clues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.text.borders import NEVER, first_class
from gemkr.text.tokenizer import Tokenizer

REPLACEMENT = "\ufffd"
"""What stands for bytes that are no whole character."""


@dataclass(frozen=True, slots=True)
class Words:
    """What heads need to know of tokens.

    `word_break` bool[V]: the token cannot belong to the word before it (None: no token can); `fold` int64[V]:
    the token that stands for it when heads are compared (None: itself).
    """

    word_break: np.ndarray | None = None
    fold: np.ndarray | None = None

    def breaks(self, tokens: Any) -> Any:
        """bool or bool[...] for a token or an array of them."""
        if self.word_break is None:
            return np.ones_like(tokens, dtype=bool)
        return self.word_break[tokens]

    def folded(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens that stand for these."""
        return tokens if self.fold is None else tuple(self.fold[list(tokens)].tolist())


def words_of(tokenizer: Tokenizer, vocab_size: int) -> Words:
    """How a tokenizer's tokens form the heads of clues, for a vocabulary of at least `vocab_size` tokens."""
    fold = folded_tokens(tokenizer)
    beyond = np.arange(len(fold), max(vocab_size, len(fold)), dtype=np.int64)
    return Words(widened(word_breaks(tokenizer), vocab_size), np.concatenate([fold, beyond]))


def word_breaks(tokenizer: Tokenizer) -> np.ndarray:
    """bool[V]: tokens that cannot belong to the word before them: word starts, punctuation, special tokens."""
    breaks = np.array(tokenizer.word_start, dtype=bool)
    breaks[list(tokenizer.special_ids)] = True
    for token in range(tokenizer.vocab_size):
        head = tokenizer.piece_bytes(token)[:4].decode(errors="replace")[:1]
        breaks[token] |= (
            bool(head) and head != REPLACEMENT and not head.isalnum() and first_class(head) != NEVER
        )
    return breaks


def folded_tokens(tokenizer: Tokenizer) -> np.ndarray:
    """int64[V]: the first token of the vocabulary whose piece is equal up to case."""
    first: dict[str, int] = {}
    pieces = enumerate(_pieces(tokenizer))
    return np.array([first.setdefault(piece.casefold(), token) for token, piece in pieces], dtype=np.int64)


def widened(flags: np.ndarray, size: int) -> np.ndarray:
    """bool flags of at least `size` tokens; tokens that the tokenizer does not know get False."""
    missing = max(0, size - len(flags))
    return np.concatenate([flags, np.zeros(missing, dtype=bool)]) if missing else flags


def _pieces(tokenizer: Tokenizer) -> Iterator[str]:
    """Every token's piece; "" for ids that a vocabulary leaves out."""
    for token in range(tokenizer.vocab_size):
        try:
            yield tokenizer.piece(token)
        except IndexError:
            yield ""
