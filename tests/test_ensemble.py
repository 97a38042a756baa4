"""Models that write together: the mean of their probabilities, beam by beam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from gemkr.config import DecodingConfig
from gemkr.decoding.beam import generate_clues
from gemkr.errors import ModelError
from gemkr.fm_index import FMIndex
from gemkr.models.ensemble import Ensemble

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


def test_clues_have_the_mean_probability_at_each_token() -> None:
    members = [Table(1), Table(2), Table(3)]
    index = FMIndex.build([[0, 1, 2], [2, 3, 4], [5, 1, 0]], vocab_size=6, threads=1)
    settings = DecodingConfig(beam_size=4, groups=1, diversity=0.0, max_tokens=3, length_penalty=0.0)
    found = generate_clues(Ensemble(members), index, [1, 2], settings)
    for prompt, clues in zip((1, 2), found, strict=True):
        assert len(clues) == 4
        for clue in clues:
            seen, total = (-prompt,), 0.0
            for token in (*clue.tokens, *([6] if len(clue.tokens) < 3 else [])):
                shares = torch.stack([member.logits(seen).softmax(dim=0) for member in members])
                total += float(shares.mean(dim=0)[token].log())
                seen = (*seen, token)
            dead = len(clue.tokens) < 3 and not index.next_tokens(clue.span)[0].size
            if not dead:
                assert clue.log_prob == pytest.approx(total, abs=1e-4)


def test_one_member_is_itself() -> None:
    logits, _ = Table(4).prefill([1])
    mean, state = Ensemble([Table(4)]).prefill([1])
    torch.testing.assert_close(mean, logits.log_softmax(dim=-1))
    again, _ = Ensemble([Table(4)]).step(torch.tensor([2, 3]), state.select([0, 0]))
    torch.testing.assert_close(again[0].exp().sum(), torch.tensor(1.0))


def test_members_must_fit() -> None:
    wide = Table(1)
    wide.vocab_size = VOCAB + 1
    with pytest.raises(ModelError, match=r"model 2 of the ensemble has 8 tokens"):
        Ensemble([Table(1), wide])
    with pytest.raises(ModelError, match="at least one"):
        Ensemble([])
