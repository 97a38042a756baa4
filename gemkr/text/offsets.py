"""Where the tokens of a text begin in it, from the tokens alone: an index holds them, so nothing is tokenized again."""

from __future__ import annotations

import numpy as np

from gemkr.text.tokenizer import Tokenizer


class TokenOffsets:
    """The offsets of a tokenizer's tokens; keeps what each token stands for, about 100 bytes a token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """A few µs for each token of the vocabulary."""
        self._pieces = [tokenizer.piece_bytes(token) for token in range(tokenizer.vocab_size)]
        self._lengths = np.array([len(piece) for piece in self._pieces], dtype=np.int64)

    def starts(self, tokens: np.ndarray, text: str) -> np.ndarray | None:
        """int64[n + 1] as of `encode_with_offsets`, for tokens int64[n] of a text as the tokenizer reads it; a token that begins
        inside a character has the place of that character.

        None when the tokens do not spell the text letter for letter: of another text, or of a tokenizer that changes texts
        (lower case, an unknown token). Costs O(n), a sixth of tokenizing.
        """
        if len(tokens) and int(tokens.max()) >= len(self._pieces):
            return None
        data = text.encode()
        spelled = b"".join([self._pieces[token] for token in tokens.tolist()])
        lead = len(spelled) - len(data)
        if spelled != (b" " * lead if lead in (0, 1) else b"") + data:
            return None
        at = np.zeros(len(tokens) + 1, dtype=np.int64)
        np.cumsum(self._lengths[tokens], out=at[1:])
        at = np.maximum(at - lead, 0)
        if len(data) == len(text):
            return at
        first = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80  # of a character's bytes
        characters = np.concatenate(([0], np.cumsum(first)))
        return characters[at] - np.concatenate((~first, [False]))[at]
