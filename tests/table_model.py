"""A language model whose next-token logits are a fixed random function of all tokens before: for tests of whole clues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gemkr.decoding.config import DecodingConfig

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
