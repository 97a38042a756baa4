"""Beams as branches: the same logits as each beam's text read on its own, and no copies of the prompt."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from gemkr.models.gemkr import branches
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.hf.llm import LLM, CacheState


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "fused"])
def llm(request: pytest.FixtureRequest) -> LLM:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LLM(LlamaForCausalLM(config).eval().requires_grad_(False), fused=request.param)


PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23]]


def start(llm: LLM) -> tuple[torch.Tensor, BranchState]:
    width = max(map(len, PROMPTS))
    tokens = torch.tensor([[0] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    logits, state = llm.prefill(llm.embed(tokens), mask)
    return logits, BranchState.root(state)


def alone(llm: LLM, text: list[int]) -> torch.Tensor:
    return llm.model(input_ids=torch.tensor([text])).logits[0, -1]


@torch.no_grad()
def test_each_beam_sees_its_prompt_and_its_own_tokens(llm: LLM) -> None:
    generator = torch.Generator().manual_seed(1)
    _, state = start(llm)
    texts = [list(p) for p in PROMPTS]
    for size in (3, 7, 12, 5, 1, 4):
        rows = torch.randint(0, len(texts), (size,), generator=generator)
        tokens = torch.randint(0, 40, (size,), generator=generator)
        logits, state = branches.step(llm, tokens, state.select(rows))
        texts = [[*texts[r], int(t)] for r, t in zip(rows.tolist(), tokens)]
        expected = torch.stack([alone(llm, text) for text in texts])
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_selecting_beams_copies_no_keys(llm: LLM) -> None:
    _, state = start(llm)
    wide = state.select(torch.tensor([0, 0, 1, 1, 2, 2, 2]))
    assert wide.cache is state.cache
    _, after = branches.step(llm, torch.arange(7), wide)
    assert after.cache.layers[0].keys.shape[0] == 3
    assert after.cache.layers[0].keys.shape[2] == 5 + 3
    assert state.cache.layers[0].keys.shape[2] == 5
    left = after.select(torch.tensor([2]))
    assert left.cache.layers[0].keys.shape[0] == 1
    assert after.cache.layers[0].keys.shape[0] == 3
    logits, _ = branches.step(llm, torch.tensor([3]), left)
    torch.testing.assert_close(logits[0], alone(llm, [11, 12, 2, 3]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_step_never_waits_for_its_device() -> None:
    """On torch's meta device there are no values, so that whatever would fetch one raises."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    with torch.device("meta"):
        llm = LLM(LlamaForCausalLM(config).eval())
        tokens = torch.zeros(3, 5, dtype=torch.int64)
        embeddings, visible = llm.embed(tokens), torch.ones(3, 5, 5, dtype=torch.bool)
        _, cache = llm.extend(embeddings, visible, tokens, visible[:, 0], DynamicCache(config=config))
        state = BranchState.root(CacheState(cache, torch.ones_like(tokens), tokens[:, 0]))
        for rows in ([0, 0, 1, 2, 2], [4, 3, 3, 1], [0, 1]):
            state = state.select(torch.tensor(rows, device="cpu"))
            logits, state = branches.step(llm, torch.zeros(len(rows), dtype=torch.int64), state)
            assert logits.shape == (len(rows), 40)
    with pytest.raises(
        RuntimeError
    ):  # what meta tensors raise for a value, whatever subclass a version of torch chooses
        logits.argmax().item()
