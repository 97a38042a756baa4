"""Tokens of many texts, quickly: where words are apart, each different word is tokenized once and remembered.

The tokenizer itself makes all tokens; texts with a word that may not be apart, and all texts of other tokenizers, go
through it whole. So the tokens are those of `Tokenizer.encode_batch`, whatever the way. Knows no documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from gemkr.text.normalize import normalize
from gemkr.text.tokenizer import NormalizedTokenizer, Tokenizer, as_written
from gemkr.text.words_apart import Apart

GROUP = 64
"""New words that are tokenized as one text; each begins at a token that begins a word."""
REMEMBERED_BYTES = 256 << 20
"""Memory of the words beyond which all are forgotten: some ten million."""
PROBES = (
    "The 324 m Tour Eiffel (1889) isn't in 北京 — naïve Ωmega, it's 😀.",
    "a b ab 'll don't we've I'M 1 22 333 4444 x1y2 3.14 1,000 £5 50% a_b a-b a/b C++ f(x)=y; <s> </s> <unk> [PAD] <|x|>",
    "Größe ﬁn Ǆ ẞ İstanbul ﷺ ½ ² ① Ⅷ ª \uff46\uff55\uff4c\uff4c カナ ｶﾅ",
    "нос नमस्ते สวัสดี العربية עברית 日本語 한국어 ქართული አማርኛ ខ្មែរ",
    "e\u0301a\u0308\u0323 x\u200dy z\u200bw \u00ad\ufeff q\u0300 \u0300q \ue000 \U0001f1e9\U0001f1ea 👩‍👩‍👧 🏳️‍🌈",
    '... !!! ?!?! -- --- "q" (a) {b} [c] #tag @me https://a.b/c?d=e&f=g',
)
"""Texts that are tokenized in both ways before the quick one is used."""


class TextEncoder:
    """Tokenizes batch after batch of texts as `tokenizer.encode_batch` does. For one thread at a time."""

    def __init__(self, tokenizer: Tokenizer, *, remembered_bytes: int = REMEMBERED_BYTES) -> None:
        """About a millisecond; the memory of words takes at most `remembered_bytes` between two batches."""
        self.tokenizer = as_written(tokenizer)
        self._read: Callable[[str], str] = normalize if isinstance(tokenizer, NormalizedTokenizer) else str
        self._narrow = tokenizer.vocab_size <= 1 << 16
        self._limit = remembered_bytes
        self._words = _memory_for(getattr(self.tokenizer, "apart", None))  # not every tokenizer says
        if self._words is not None and not self._agrees():
            self._words = None

    @property
    def by_words(self) -> bool:
        """Whether words are tokenized one by one."""
        return self._words is not None

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(tokens of all texts one after the other: uint16 for vocabularies up to 65,536, else uint32; int64[n] tokens of each).

        Releases the GIL most of the time. A quarter to a fifth of the tokenizer's own time on 67 MB of English.
        """
        read = [self._read(text) for text in texts]
        if self._words is None:
            return self._whole(read)
        try:
            tokens, counts = self._remembered(read)
        except BaseException:
            self._words.clear()  # it may wait for an answer
            raise
        if self._words.bytes > self._limit:
            self._words.clear()
        odd = np.flatnonzero(counts < 0)
        if not len(odd):
            return tokens, counts
        return _filled(tokens, counts, odd, *self._whole([read[i] for i in odd.tolist()]))

    def _whole(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = self.tokenizer.encode_batch(texts)
        counts = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        return _flat(encoded, int(counts.sum()), np.uint16 if self._narrow else np.uint32), counts

    def _remembered(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the texts that hold no odd word; count -1 for the others."""
        groups = self._words.note(texts, GROUP)
        encoded = self.tokenizer.encode_batch(groups)
        size = sum(map(len, encoded))
        tokens = _flat(encoded, size, np.uint32)
        starts = np.flatnonzero(self.tokenizer.word_start[tokens])
        self._words.answer(np.diff(starts, append=size), tokens)
        return self._words.take(self._narrow)

    def _agrees(self) -> bool:
        """Whether the probes have the same tokens in both ways."""
        probes = [normalize(probe) for probe in PROBES]
        try:
            tokens, counts = self.encode(probes)
        except ValueError:  # word starts are not where words are
            return False
        whole = self._whole([self._read(probe) for probe in probes])
        return np.array_equal(counts, whole[1]) and np.array_equal(tokens, whole[0])


def _memory_for(apart: Apart | None) -> Any:
    """An empty memory of words; None where words are not apart, or the extension was not built."""
    if apart is None:
        return None
    try:
        from gemkr.text._words import WordCache
    except ImportError:
        return None
    return WordCache(apart is Apart.ASCII)


def _flat(encoded: Iterable[list[int]], size: int, dtype: type[np.unsignedinteger]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(encoded), dtype=dtype, count=size)


def _filled(
    tokens: np.ndarray, counts: np.ndarray, odd: np.ndarray, missing: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and counts with those of the texts `odd` in their places."""
    counts = counts.copy()
    counts[odd] = 0
    places = np.cumsum(counts)[odd]
    counts[odd] = lengths
    return np.insert(tokens, np.repeat(places, lengths), missing), counts
