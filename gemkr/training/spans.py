"""Pre-training by withheld spans: a passage with some of its words left out is the prompt, those words are its clues.

What fine-tuning asks for (read a text, name what belongs to it) is so learned from any corpus before the first question
is seen. Spans that occur as answers are withheld most, rare ones before common ones, as in salient span masking
(Guu et al., REALM, 2020, section 3.4). A sample is a function of seed and number alone. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from gemkr.config import SpansConfig
from gemkr.errors import DataError
from gemkr.models.shared import SharedExample
from gemkr.tokenization import TokenizedCorpus
from gemkr.tokenizer import Tokenizer
from gemkr.types import Query

ANSWER_WEIGHT = 3.0
"""How much rather a span that occurs as an answer is withheld than another word of the same frequency."""
LEAST_LETTERS = 4
"""Words with fewer letters are withheld only as answers; most of them are function words."""
LONGEST_WORD = 4
"""Tokens of a single word that may be withheld."""
TRIES = 20


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens [start, stop) of a window, and how much they are worth withholding."""

    start: int
    stop: int
    weight: float


class SpanDataset:
    """Sample i: a window of the corpus without up to `settings.spans` of its words, and these words as clues.

    `build(query)` makes the example of a query whose caption is the rest of the window. One pass over the samples
    reads about as many tokens as the corpus holds. Each sample costs about half a millisecond.
    """

    def __init__(
        self,
        corpus: TokenizedCorpus,
        tokenizer: Tokenizer,
        answers: Iterable[str],
        build: Callable[[Query], object],
        settings: SpansConfig,
        seed: int,
    ) -> None:
        """Raises DataError for a corpus in which no window has words to withhold."""
        self._corpus, self._tokenizer, self._build = corpus, tokenizer, build
        self._settings, self._seed = settings, seed
        self._answers = _by_first_token(tokenizer, answers)
        self._rarity = 1 / np.sqrt(np.bincount(corpus.tokens, minlength=tokenizer.vocab_size) + 1.0)
        pieces = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
        self._starts = np.asarray(tokenizer.word_start, dtype=bool)
        self._inside = np.array([piece[:1].isalnum() for piece in pieces]) & ~self._starts
        self._letters = np.array([sum(map(str.isalpha, piece)) for piece in pieces])
        lengths = np.diff(corpus.offsets)
        self._ends = np.cumsum(np.maximum(lengths // settings.window, lengths > 0))
        if not len(self):
            raise DataError("the corpus holds no token to pre-train on; give one with text")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> SharedExample:
        doc = int(np.searchsorted(self._ends, number, side="right"))
        rng = np.random.default_rng([self._seed, number])
        for _ in range(TRIES):
            tokens = self._corpus.document(doc)
            start = int(rng.integers(max(1, len(tokens) - self._settings.window + 1)))
            window = tokens[start : start + self._settings.window].astype(np.int64).tolist()
            spans = self._candidates(window)
            if len(spans) > 1:
                return self._example(window, self._choose(spans, rng))
            doc = int(rng.integers(len(self._corpus)))
        raise DataError(
            f"{TRIES} windows of the corpus hold no word to withhold; pre-train on its text instead"
        )

    def lengths(self) -> np.ndarray:
        """int64[n]: all windows count as equally long."""
        return np.full(len(self), self._settings.window)

    def _candidates(self, window: list[int]) -> list[_Span]:
        """At each word's beginning, the longest answer, else the word if it is one of content."""
        found = []
        for start, token in enumerate(window):
            if not self._starts[token]:
                continue
            stop = self._answer_end(window, start)
            if stop is not None:
                found.append(_Span(start, stop, ANSWER_WEIGHT * self._rarity[token]))
                continue
            stop = start + 1
            while stop < len(window) and self._inside[window[stop]]:
                stop += 1
            if stop - start <= LONGEST_WORD and self._letters[window[start:stop]].sum() >= LEAST_LETTERS:
                found.append(_Span(start, stop, self._rarity[token]))
        return found

    def _answer_end(self, window: list[int], start: int) -> int | None:
        for answer in self._answers.get(window[start], ()):
            stop = start + len(answer)
            ends_word = stop == len(window) or (stop < len(window) and not self._inside[window[stop]])
            if ends_word and tuple(window[start:stop]) == answer:
                return stop
        return None

    def _choose(self, spans: list[_Span], rng: np.random.Generator) -> list[_Span]:
        """Up to `spans` of them, and never all: something must be left to read."""
        weights = np.array([span.weight for span in spans])
        size = min(self._settings.spans, len(spans) - 1)
        return [spans[i] for i in rng.choice(len(spans), size, replace=False, p=weights / weights.sum())]

    def _example(self, window: list[int], spans: list[_Span]) -> SharedExample:
        gone = {place for span in spans for place in range(span.start, span.stop)}
        rest = self._tokenizer.decode(token for place, token in enumerate(window) if place not in gone)
        clues = dict.fromkeys(tuple(window[span.start : span.stop]) for span in spans)
        return self._build(Query("", caption=rest)), tuple(clues)


def _by_first_token(tokenizer: Tokenizer, answers: Iterable[str]) -> dict[int, list[tuple[int, ...]]]:
    """The distinct answers as tokens, by their first one, longest first."""
    distinct = sorted({answer.strip() for answer in answers} - {""})
    found: dict[int, set[tuple[int, ...]]] = {}
    for tokens in tokenizer.encode_batch(distinct):
        found.setdefault(tokens[0], set()).add(tuple(tokens))
    return {first: sorted(group, key=lambda tokens: (-len(tokens), tokens)) for first, group in found.items()}
