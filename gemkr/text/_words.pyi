"""Typed contract of the extension."""

import numpy as np
from numpy.typing import NDArray

class WordCache:
    """The tokens of words (what stands between two spaces) that were seen before. For one thread at a time.

    For each batch of texts: `note`, `answer`, `take`. `len` is the number of known words.
    """

    def __init__(self, ascii_only: bool) -> None:
        """Odd words are empty ones and those with white space, control characters or U+2581; with `ascii_only` also those with
        any character beyond ASCII."""

    def note(self, texts: list[str], group: int) -> list[str]:
        """Cut texts at their spaces; returns the new words that are not odd, joined by spaces, `group` in a string.

        Releases the GIL.
        """

    def answer(self, lengths: NDArray[np.int64], tokens: NDArray[np.uint32]) -> None:
        """The number of tokens of each new word, and the tokens of all. ValueError where they do not fit."""

    def take(self, narrow: bool) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.int64]]:
        """(tokens of all texts but those with an odd word, number of tokens of each text, -1 for one with an odd word); uint16
        where `narrow`, else uint32. Forgets the texts, keeps the words. ValueError before `answer`."""

    def clear(self) -> None:
        """Forget all words."""

    @property
    def bytes(self) -> int:
        """Memory that the words take."""
