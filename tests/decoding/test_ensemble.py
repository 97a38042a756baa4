"""Models that write together: the mean of the probabilities of a clue, and guesses of answers among them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from benchmarks.okvqa.answer_expert import AnswerExpert
from gemkr.decoding.beam import generate_clues
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.ensemble import Ensemble
from gemkr.errors import ModelError
from gemkr.fm_index import FMIndex
from gemkr.types import Query

VOCAB = 7


@dataclass
class Walk:
    """The tokens that a row has seen."""

    rows: list[tuple[int, ...]]

    def select(self, rows: Any) -> Walk:
        return Walk([self.rows[i] for i in torch.as_tensor(rows).tolist()])


class Table:
    """A model whose next-token logits are a fixed random function of what the row has seen."""

    vocab_size, eos_token_ids, device = VOCAB, (6,), torch.device("cpu")

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def logits(self, seen: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, seen)) % 2**31)
        return torch.randn(VOCAB, generator=generator) * 3

    def prefill(self, prompts: list[int]) -> tuple[torch.Tensor, Walk]:
        rows = [(-prompt,) for prompt in prompts]
        return torch.stack([self.logits(row) for row in rows]), Walk(rows)

    def step(self, tokens: torch.Tensor, state: Walk) -> tuple[torch.Tensor, Walk]:
        rows = [(*row, token) for row, token in zip(state.rows, tokens.tolist(), strict=True)]
        return torch.stack([self.logits(row) for row in rows]), Walk(rows)


SETTINGS = DecodingConfig(beam_size=4, groups=1, diversity=0.0, max_tokens=3, length_penalty=0.0)


def together(prompts: list[Any], members: int) -> list[tuple[Any, ...]]:
    return [(prompt,) * members for prompt in prompts]


@pytest.mark.parametrize("weights", [None, [1, 3, 0.5]])
def test_a_clue_has_the_weighted_mean_of_its_probabilities(weights: list[float] | None) -> None:
    members = [Table(1), Table(2), Table(3)]
    shares = torch.tensor(weights or [1.0, 1.0, 1.0]) / sum(weights or [1, 1, 1])
    index = FMIndex.build([[0, 1, 2], [2, 3, 4], [5, 1, 0]], vocab_size=6, threads=1)
    found = generate_clues(Ensemble(members, weights), index, together([1, 2], 3), SETTINGS)
    for prompt, clues in zip((1, 2), found, strict=True):
        assert len(clues) == 4
        for clue in clues:
            if len(clue.tokens) < 3 and not index.next_tokens(clue.span)[0].size:
                continue
            written = (*clue.tokens, *([6] if len(clue.tokens) < 3 else []))
            logs = torch.zeros(3)
            for place, token in enumerate(written):
                seen = (-prompt, *written[:place])
                logs += torch.stack([member.logits(seen).log_softmax(dim=0)[token] for member in members])
            assert clue.log_prob == pytest.approx(float((logs.exp() @ shares).log()), abs=1e-4)


def test_one_member_is_itself() -> None:
    logits, _ = Table(4).prefill([1])
    mean, state = Ensemble([Table(4)]).prefill([(1,)])
    torch.testing.assert_close(mean, logits.log_softmax(dim=-1))
    again, _ = Ensemble([Table(4)]).step(torch.tensor([2, 3]), state.select([0, 0]))
    torch.testing.assert_close(again.exp().sum(dim=1), torch.ones(2))


def test_members_must_fit() -> None:
    wide = Table(1)
    wide.vocab_size = VOCAB + 1
    with pytest.raises(ModelError, match=r"model 2 of the ensemble has 8 tokens"):
        Ensemble([Table(1), wide])
    with pytest.raises(ModelError, match="at least one"):
        Ensemble([])
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0]):
        with pytest.raises(ModelError, match="as many positive weights"):
            Ensemble([Table(1), Table(2)], weights)


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
