"""The answer expert: guesses of answers as a member of an ensemble."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from table_model import SETTINGS, VOCAB, Table

from benchmarks.okvqa.answer_expert import AnswerExpert
from gemkr.decoding.beam import generate_clues
from gemkr.decoding.ensemble import Ensemble
from gemkr.errors import ModelError
from gemkr.fm_index import FMIndex
from gemkr.types import Query


class Words:
    """Spells w3 as token 3; an answer may have several words."""

    eos_ids = (6,)

    def encode(self, text: str) -> list[int]:
        return [int(word[1:]) for word in text.split()]


class Guesser:
    def __init__(self, guesses: list[tuple[str, float]]) -> None:
        self.guesses = guesses

    def guess(self, query: Query) -> list[tuple[str, float]]:
        return self.guesses if query.question else []


def expert(guesses: list[tuple[str, float]], most: int = 10) -> AnswerExpert:
    return AnswerExpert(Guesser(guesses), Words(), VOCAB, guesses=most, device=torch.device("cpu"))


GUESSES = [("w0 w1", 0.4), ("w0", 0.3), ("w5 w1 w0", 0.2), ("", 0.1), ("w3", 0.0)]


def test_an_expert_writes_its_guesses() -> None:
    index = FMIndex.build([[0, 1, 2], [2, 3, 4], [5, 1, 0]], vocab_size=6, threads=1)
    asked = [Query("q", "what?")]
    (found,) = generate_clues(expert(GUESSES), index, asked, SETTINGS)
    shares = {clue.tokens: math.exp(clue.log_prob) for clue in found}
    assert shares == pytest.approx({(0, 1): 0.4 / 0.9, (0,): 0.3 / 0.9, (5, 1, 0): 0.2 / 0.9})
    (fewer,) = generate_clues(expert(GUESSES, most=1), index, asked, SETTINGS)
    assert [clue.tokens for clue in fewer] == [(0, 1)]


def test_an_expert_without_a_guess_is_indifferent() -> None:
    logits, _ = expert(GUESSES).prefill([Query("q")])
    assert torch.equal(logits, torch.zeros(1, VOCAB))


def test_an_expert_has_its_share_of_whole_clues_only() -> None:
    """What a model writes beyond every guess has the model's share of the probability, and no more or less."""
    index = FMIndex.build([[0, 1, 2], [2, 3, 4], [5, 1, 0]], vocab_size=6, threads=1)
    model, asked = Table(1), Query("q", "what?")
    mixed = Ensemble([model, expert(GUESSES)], [0.25, 0.75])
    (found,) = generate_clues(mixed, index, [(1, asked)], replace(SETTINGS, beam_size=30))
    shares = {clue.tokens: math.exp(clue.log_prob) for clue in found}
    for clue, share in shares.items():
        if len(clue) < 3 and not index.next_tokens(index.search(clue))[0].size:
            continue
        written, own = (*clue, *([6] if len(clue) < 3 else [])), 1.0
        for place, token in enumerate(written):
            own *= float(model.logits((-1, *written[:place])).softmax(dim=0)[token])
        guessed = {(0, 1): 0.4 / 0.9, (0,): 0.3 / 0.9, (5, 1, 0): 0.2 / 0.9}.get(clue, 0.0)
        assert share == pytest.approx(0.25 * own + 0.75 * guessed, rel=1e-3)
    assert {(0, 1), (0,), (5, 1, 0), (2, 3, 4)} <= set(shares)


def test_an_expert_needs_an_end() -> None:
    words = Words()
    words.eos_ids = ()
    with pytest.raises(ModelError, match="no end-of-text token"):
        AnswerExpert(Guesser([]), words, VOCAB, guesses=3, device=torch.device("cpu"))
