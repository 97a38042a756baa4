"""The pass for CPUs: each part and the whole against transformers, peft and autograd, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batches import apart, example, ranked, shared
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from gemkr.errors import ModelError
from gemkr.models.gemkr.batch import Batch, collate, hide_words
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import GeMKR
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.fused_parts import LowRank, RMSNorm, SwiGLU, TargetLoss, keep_mask
from gemkr.models.hf.llm import LLM
from gemkr.models.hf.llm_folder import add_lora

ALL = r".*\.(q|k|v|o|gate|up|down)_proj"
NEAR = {"rtol": 2e-5, "atol": 2e-6}


def network(fused: bool, targets: str = ALL, dropout: float = 0.0, precision: str = "fp32") -> GeMKR:
    """A LLaMA whose query heads share key heads, with adapters that do something already."""
    torch.manual_seed(0)
    size = LlamaConfig(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, rope_parameters={"rope_type": "default", "rope_theta": 300.0},
    )  # fmt: skip
    llm = LlamaForCausalLM(size).requires_grad_(False)
    lora = LoraConfig(r=3, alpha=5, dropout=dropout, targets=targets)
    add_lora(llm, lora)
    for name, parameter in llm.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.3)
    if precision == "bf16":
        for parameter in llm.parameters():
            parameter.data = parameter.data if parameter.requires_grad else parameter.data.bfloat16()
    config = ModelConfig(llm="", lora=lora, fused=fused, precision=precision)
    tokenizer = SimpleNamespace(vocab_size=48, eos_ids=(1,), pad_id=0)
    return GeMKR(config, tokenizer, LLM(llm, fused=fused), None)


def loss_and_gradients(model: GeMKR, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    loss = model(batch)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.trainable_parameters().items()}


@pytest.mark.parametrize("batch", [apart, shared, ranked])
@pytest.mark.parametrize("targets", [ALL, r".*\.(q_proj|v_proj)", r".*\.(o|up)_proj"])
def test_the_whole_network_is_the_same_function(batch: Callable[[], Batch], targets: str) -> None:
    plain, fused = (network(kind, targets) for kind in (False, True))
    expected, gradients = loss_and_gradients(plain, batch())
    found, own = loss_and_gradients(fused, batch())
    torch.testing.assert_close(found, expected, **NEAR)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert (own[name] - gradient).norm() <= 1e-4 * gradient.norm(), name
        assert gradient.norm() > 0
    assert plain.trained_state().keys() == fused.trained_state().keys()


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(1, 9), st.lists(st.lists(st.integers(2, 47), min_size=1, max_size=4), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=4,
    ),
    hidden=st.booleans(),
)  # fmt: skip
def test_on_any_batch_the_same_losses_for_every_target(rows: Any, hidden: bool) -> None:
    examples = [
        example(tuple(range(2, 2 + length)), behind=tuple(ClueTarget(tuple(clue)) for clue in clues))
        for length, clues in rows
    ]
    batch = collate(examples, 0, 1)
    if hidden:
        torch.manual_seed(3)
        batch = hide_words(batch, 0.5)
    plain, fused = (network(kind) for kind in (False, True))
    for expected, found in zip(plain.target_losses(batch), fused.target_losses(batch)):
        torch.testing.assert_close(found, expected, **NEAR)


def test_in_bf16_it_is_as_near_to_float32_as_the_plain_pass() -> None:
    exact, gradients = loss_and_gradients(network(False), shared())
    for fused in (False, True):
        loss, own = loss_and_gradients(network(fused, precision="bf16"), shared())
        assert loss == pytest.approx(float(exact), rel=0.02)
        joined, expected = (torch.cat([g.flatten() for g in every.values()]) for every in (own, gradients))
        assert F.cosine_similarity(joined, expected, dim=0) > 0.98


def test_dropout_is_a_function_of_the_seed_and_off_in_evaluation() -> None:
    model = network(True, dropout=0.3).train()

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model(shared()).detach()

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    model.eval()
    assert torch.equal(drawn(1), drawn(2))
    torch.testing.assert_close(drawn(1), network(False)(shared()).detach(), **NEAR)


def test_dropped_states_average_to_what_they_were() -> None:
    bits = np.random.default_rng(0).integers(0, 256, 50_000, dtype=np.uint8)
    keep = keep_mask((500, 100), 0.05, bits, torch.float32)
    half = keep_mask((500, 100), 0.05, bits, torch.bfloat16)
    assert keep.unique().tolist() == pytest.approx([0.0, 256 / 243])
    assert torch.equal(half, keep.bfloat16())
    assert torch.equal(keep.flatten() == 0, torch.from_numpy(bits < 13))
    assert float((keep == 0).float().mean()) == pytest.approx(13 / 256, abs=0.005)
    assert float(keep.mean()) == pytest.approx(1.0, abs=0.005)


def both_ways(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """What a function gives, and its gradients behind a fixed random weighing."""
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    result = function(*leaves)
    torch.manual_seed(9)
    result.backward(torch.randn_like(result))
    return [result.detach(), *(x.grad for x in leaves if x.grad is not None)]


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_norm_and_gate_are_those_of_transformers() -> None:
    torch.manual_seed(1)
    norm = LlamaRMSNorm(24, eps=1e-4)
    norm.weight.data.normal_()
    x = torch.randn(7, 24) * 3
    weight = norm.weight.detach()
    close(both_ways(lambda x: RMSNorm.apply(x, weight, 1e-4), x), both_ways(norm, x))

    def gated(both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate) * up

    close(both_ways(SwiGLU.apply, x), both_ways(gated, x))


@pytest.mark.parametrize("dropped", [False, True])
def test_adapters_are_those_of_peft(dropped: bool) -> None:
    torch.manual_seed(1)
    x, frozen, a, b = torch.randn(9, 12), torch.randn(20, 12), torch.randn(4, 12), torch.randn(20, 4)
    keep = (torch.rand(9, 12) > 0.3) / 0.7 if dropped else None

    def plain(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return x @ frozen.t() + 1.7 * ((x if keep is None else x * keep) @ a.t() @ b.t())

    found = both_ways(lambda x, a, b: LowRank.apply(x, frozen, a, b, 1.7, keep), x, a, b)
    close(found, both_ways(plain, x, a, b))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 20), targets=st.integers(1, 30), seed=st.integers(0, 99))
def test_target_losses_are_cross_entropies(rows: int, targets: int, seed: int) -> None:
    torch.manual_seed(seed)
    states, head = torch.randn(rows, 6), torch.randn(11, 6)
    owners, wanted = torch.randint(rows, (targets,)), torch.randint(11, (targets,))

    def plain(states: Tensor) -> Tensor:
        return F.cross_entropy((states @ head.t())[owners], wanted, reduction="none")

    close(both_ways(lambda s: TargetLoss.apply(s, head, owners, wanted), states), both_ways(plain, states))


def test_other_models_are_refused() -> None:
    with pytest.raises(ModelError, match=r"model\.fused is for LLaMAs, this is a gpt2; set it to false"):
        LLM(GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10)), fused=True)
    size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 10, "intermediate_size": 12}  # fmt: skip
    for change, learns in (({"attention_bias": True}, False), ({}, True)):
        model = LlamaForCausalLM(LlamaConfig(**size, **change)).requires_grad_(learns)
        with pytest.raises(ModelError, match="frozen weights and without biases"):
            LLM(model, fused=True)
    model = LlamaForCausalLM(LlamaConfig(**size)).requires_grad_(False)
    add_lora(model, LoraConfig(dora=True))
    with pytest.raises(ModelError, match=r"model\.fused is for LoRA, this is DoRA; set model\.fused or"):
        LLM(model, fused=True)
