"""A guesser of answers as a member of an ensemble: its guesses, spelled token by token.

To a search it is one `LanguageModel`, whose prompts are queries. Knows nothing of networks or documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.okvqa.answers import AnswerGuesser
from gemkr.errors import ModelError
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query

Clues = dict[tuple[int, ...], float]
"""Whole clues, end token included, by probability."""


@dataclass(frozen=True, slots=True)
class GuessState:
    """B beams: `guesses[i]` are the clues that beam i may still become, each without what beam i has written."""

    guesses: tuple[Clues, ...]

    def select(self, rows: Any) -> GuessState:
        """Rows `rows` (int64[B'], repeats and drops allowed); the old state stays valid."""
        return GuessState(tuple(self.guesses[i] for i in torch.as_tensor(rows).tolist()))


class AnswerExpert:
    """The `LanguageModel` that gives a clue the probability of the guess that it spells, and every other clue none.

    Without guesses all tokens are equally probable. Costs V floats a row and step.
    """

    def __init__(
        self, guesser: AnswerGuesser, tokenizer: Tokenizer, vocab_size: int, *, guesses: int, device: Any
    ) -> None:
        """The best `guesses` of each query count, scaled to sum to 1. `vocab_size` is that of the other models."""
        if not tokenizer.eos_ids:
            raise ModelError("the tokenizer has no end-of-text token, so that no guess can end; use another")
        self.guesser = guesser
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.eos_token_ids = tuple(tokenizer.eos_ids)
        self.device = device
        self._guesses = guesses
        self._spelled: dict[str, tuple[int, ...]] = {}

    def prefill(self, prompts: Sequence[Query]) -> tuple[torch.Tensor, GuessState]:
        """Logits float32[Q, V], -inf where no guess begins with the token, and the state of Q rows."""
        return self._logits([self._clues(query) for query in prompts])

    def step(self, tokens: torch.Tensor, state: GuessState) -> tuple[torch.Tensor, GuessState]:
        """Feed one token per row, int64[B]."""
        rows = zip(state.guesses, tokens.tolist(), strict=True)
        return self._logits(
            [{clue[1:]: p for clue, p in guesses.items() if clue[0] == token} for guesses, token in rows]
        )

    def _clues(self, query: Query) -> Clues:
        clues: Clues = {}
        for answer, weight in self.guesser.guess(query)[: self._guesses]:
            clue = self._spell(answer)
            if weight > 0 and len(clue) > 1:
                clues[clue] = clues.get(clue, 0.0) + weight
        return clues

    def _spell(self, answer: str) -> tuple[int, ...]:
        if answer not in self._spelled:
            self._spelled[answer] = (*self.tokenizer.encode(answer), self.eos_token_ids[0])
        return self._spelled[answer]

    def _logits(self, guesses: list[Clues]) -> tuple[torch.Tensor, GuessState]:
        logits = torch.zeros(len(guesses), self.vocab_size)
        for row, clues in zip(logits, guesses, strict=True):
            shares: dict[int, float] = {}
            for clue, p in clues.items():
                if clue:
                    shares[clue[0]] = shares.get(clue[0], 0.0) + p
            if shares:
                row.fill_(-torch.inf)
                row[list(shares)] = torch.tensor([math.log(p) for p in shares.values()])
        return logits.to(self.device), GuessState(tuple(guesses))
