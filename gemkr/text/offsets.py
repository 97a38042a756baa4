"""Where the tokens of a text begin in it, from the tokens alone: an index holds them, so nothing is tokenized again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from gemkr.text.tokenizer import Tokenizer


class TokenOffsets:
    """The offsets of a tokenizer's tokens; keeps what each token stands for, about 25 bytes a token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """A few µs for each token of the vocabulary."""
        pieces = [tokenizer.piece_bytes(token) for token in range(tokenizer.vocab_size)]
        self._lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        self._first = np.cumsum(self._lengths) - self._lengths
        self._bytes = np.frombuffer(b"".join(pieces), dtype=np.uint8)

    def starts(
        self, tokens: np.ndarray, ends: np.ndarray, texts: Sequence[str]
    ) -> Iterator[np.ndarray | None]:
        """For each of the texts as the tokenizer reads it, int64[m + 1] as of `encode_with_offsets`, for its m tokens
        tokens[ends[i]:ends[i + 1]], int64; a token that begins inside a character has the place of that character.

        None when the tokens do not spell the text letter for letter: of another text, or of a tokenizer that changes texts
        (lower case, an unknown token). Costs O(tokens), a tenth of tokenizing.
        """
        known = tokens < len(self._lengths)
        if not known.all():
            tokens = np.where(known, tokens, 0)
        lengths = self._lengths[tokens]
        at = np.zeros(len(tokens) + 1, dtype=np.int64)
        np.cumsum(lengths, out=at[1:])
        places = np.repeat(self._first[tokens] - at[:-1], lengths) + np.arange(at[-1])
        spelled = self._bytes[places].tobytes()
        bounds = ends.tolist()
        for text, (first, last), (start, stop) in zip(
            texts, pairwise(bounds), pairwise(at[bounds].tolist()), strict=True
        ):
            data = text.encode()
            lead = stop - start - len(data)
            written = data if not lead else b" " + data
            if lead not in (0, 1) or spelled[start:stop] != written or not known[first:last].all():
                yield None
                continue
            own = at[first : last + 1] - (start + lead)
            own[0] = 0
            yield own if len(data) == len(text) else _characters(own, data)


def _characters(at: np.ndarray, data: bytes) -> np.ndarray:
    """The characters at, or around, the places int64[n] in the bytes of a text."""
    first = (np.frombuffer(data, dtype=np.uint8) & 0xC0) != 0x80
    characters = np.concatenate(([0], np.cumsum(first)))
    return characters[at] - np.concatenate((~first, [False]))[at]
