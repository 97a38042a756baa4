"""The LLM wrapper on a real, trained LLaMA: what llama2.c writes greedily, our KV cache writes too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from stories import load_pieces, load_stories

from gemkr.models import branches
from gemkr.models.branches import BranchState
from gemkr.models.llm import LLM

GREEDY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, "
    "red ball. She wanted to play with it, but it was too high."
)
BOS = 1


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> LLM:
    return LLM(load_stories(shared_data / "stories260K" / "stories260K.bin"))


@pytest.mark.shared
@torch.no_grad()
def test_greedy_text_is_the_published_one(stories: LLM, shared_data: Path) -> None:
    pieces = load_pieces(shared_data / "stories260K" / "tok512.bin")
    logits, state = stories.prefill(stories.embed(torch.tensor([[BOS]])), torch.ones(1, 1, dtype=torch.int64))
    state, text = BranchState.root(state), ""
    while len(text) <= len(GREEDY):
        token = logits.argmax(dim=1)
        text += pieces[int(token)]
        logits, state = branches.step(stories, token, state)
    assert text.strip().startswith(GREEDY)


@pytest.mark.shared
@torch.no_grad()
def test_left_padding_cache_and_selection_change_nothing(stories: LLM) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 512, (n,), generator=generator) for n in (9, 4, 1)]
    mask = torch.tensor([[0] * (9 - len(row)) + [1] * len(row) for row in rows])
    tokens = torch.stack([torch.nn.functional.pad(row, (9 - len(row), 0)) for row in rows])
    logits, state = stories.prefill(stories.embed(tokens), mask)
    order = [2, 0, 0, 1]
    state = BranchState.root(state).select(torch.tensor(order))
    after, state = branches.step(stories, torch.tensor([7, 8, 9, 10]), state)
    after, _ = branches.step(stories, torch.tensor([11, 12, 13, 14]), state)
    for i, row in enumerate(order):
        alone = torch.cat([rows[row], torch.tensor([7 + i, 11 + i])])[None]
        full = stories.logits(stories.embed(alone), torch.ones_like(alone), last=3)[0]
        torch.testing.assert_close(logits[row], full[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after[i], full[2], rtol=1e-4, atol=1e-4)
