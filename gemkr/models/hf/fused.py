"""A LLaMA read in one pass written for CPUs: tokens without padding, queries, keys and values in one product,
gate and up in another, low-rank adapters beside them.

The same function and the same parameters as transformers' and peft's modules, which it takes its weights from; what those
would do by hooks, caches and hundreds of small operations is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gemkr.errors import ModelError
from gemkr.models.hf.fused_parts import (
    Attention,
    Grid,
    LowRank,
    Memory,
    RMSNorm,
    SwiGLU,
    attend,
    keep_mask,
)

GROUPS = {
    "attention": ("q_proj", "k_proj", "v_proj"),
    "out": ("o_proj",),
    "inner": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Linear layers of a block that read the same states."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Linear layers that read the same states, side by side: their frozen weights [O, I], and the modules themselves."""

    frozen: Tensor
    parts: tuple[nn.Module, ...]


@dataclass(frozen=True, slots=True)
class Adapters:
    """What learns beside `Joined`, in the dtype of the pass: A [R, I], B [O, R], their scale, the share that is dropped."""

    a: Tensor
    b: Tensor
    scale: float
    dropout: float


Block = dict[str, tuple[Joined, Adapters | None]]


@dataclass(slots=True)
class FusedCache:
    """Keys and values of all layers, and the adapters that they were made with."""

    layers: list[Memory]
    blocks: list[Block]


class FusedLlama:
    """The pass over one `LlamaForCausalLM` with frozen weights and perhaps adapters. Holds a second copy of the weights
    that stand side by side."""

    def __init__(self, model: nn.Module) -> None:
        """Raises ModelError as `require_fusable`."""
        require_fusable(model)
        body = model.base_model
        self.config, self.rotary, self.norm, self.layers = (
            model.config,
            body.rotary_emb,
            body.norm,
            body.layers,
        )
        self.joined = [{name: _join(layer, parts) for name, parts in GROUPS.items()} for layer in self.layers]

    def __call__(self, embeddings: Tensor, visible: Tensor, positions: Tensor, real: Tensor) -> Tensor:
        """Last states [B, T, hidden] of embeddings [B, T, hidden]: token i sees what `visible` bool[B, i, T] marks and stands
        at `positions` int64[B, T]; places that `real` bool[B, T] does not mark are passed over and hold zeros."""
        return self._read(embeddings, visible, positions, real, self._blocks(embeddings), None)

    @torch.no_grad()
    def extend(
        self,
        embeddings: Tensor,
        visible: Tensor,
        positions: Tensor,
        real: Tensor,
        cache: FusedCache | None = None,
    ) -> tuple[Tensor, FusedCache]:
        """The same for tokens behind the L that `cache` holds of each row, with `visible` bool[B, T, L + T], and the cache
        grown by them; nothing is learned from it. The cache is changed in place, its tensors are not."""
        if cache is None:
            cache = FusedCache([], self._blocks(embeddings))
        return self._read(embeddings, visible, positions, real, cache.blocks, cache.layers), cache

    def _read(
        self,
        embeddings: Tensor,
        visible: Tensor,
        positions: Tensor,
        real: Tensor,
        blocks: list[Block],
        memory: list[Memory] | None,
    ) -> Tensor:
        rows, length = real.shape
        places = real.flatten().nonzero()[:, 0]
        grid = self._grid(visible, positions, places)
        dtype = _dtype(embeddings)
        states = embeddings.flatten(0, 1)[places].to(dtype)
        with torch.autocast(embeddings.device.type, enabled=False):
            for number, (layer, block) in enumerate(zip(self.layers, blocks)):
                states = self._layer(states, layer, block, grid, memory, number)
            states = RMSNorm.apply(states, self.norm.weight.to(dtype), self.norm.variance_epsilon)
        full = states.new_zeros(rows * length, states.shape[1]).index_copy(0, places, states)
        return full.view(rows, length, -1)

    def _layer(
        self,
        states: Tensor,
        layer: nn.Module,
        block: Block,
        grid: Grid,
        memory: list[Memory] | None,
        number: int,
    ) -> Tensor:
        dtype, first, second = states.dtype, layer.input_layernorm, layer.post_attention_layernorm
        heads = self.config.num_attention_heads, self.config.num_key_value_heads
        read = _linear(
            RMSNorm.apply(states, first.weight.to(dtype), first.variance_epsilon), *block["attention"]
        )
        if memory is None:
            read = Attention.apply(read, grid, *heads)
        else:
            before = memory[number] if number < len(memory) else None
            read, now = attend(read, grid, *heads, before)
            memory[number:] = [now, *memory[number + 1 :]]
        states = states + _linear(read, *block["out"])
        inner = RMSNorm.apply(states, second.weight.to(dtype), second.variance_epsilon)
        return states + _linear(SwiGLU.apply(_linear(inner, *block["inner"])), *block["down"])

    def _blocks(self, embeddings: Tensor) -> list[Block]:
        dtype = _dtype(embeddings)
        return [
            {name: (joined, _adapters(joined, dtype)) for name, joined in layer.items()}
            for layer in self.joined
        ]

    def _grid(self, visible: Tensor, positions: Tensor, places: Tensor) -> Grid:
        rows, length, seen = visible.shape
        keys = self.config.num_key_value_heads
        shared = self.config.num_attention_heads // keys
        bias = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None, None]
        bias = bias.expand(rows, keys, shared, length, seen).reshape(rows * keys, shared * length, seen)
        cos, sin = self.rotary(torch.zeros((), device=positions.device), positions.flatten()[places][None])
        half = cos.shape[-1] // 2
        return Grid(rows, length, places, bias, cos[0, :, None, :half], sin[0, :, None, :half])


def require_fusable(model: nn.Module) -> None:
    """ModelError unless the model is a LLaMA as transformers builds it, its own weights frozen and without biases."""
    kind = getattr(model.config, "model_type", "model")
    if kind != "llama" or model.config.hidden_act != "silu":
        raise ModelError(f"model.fused is for LLaMAs, this is a {kind}; set it to false")
    if any(".lora_magnitude_vector." in name for name, _ in model.named_parameters()):
        raise ModelError("model.fused is for LoRA, this is DoRA; set model.fused or model.lora.dora to false")
    own = {name: parameter for name, parameter in model.named_parameters() if ".lora_" not in name}
    learned = sum(parameter.requires_grad for parameter in own.values())
    if learned or any(name.endswith(".bias") for name in own):
        raise ModelError(
            "model.fused is for a LLaMA with frozen weights and without biases, beside which adapters learn; set it to false"
        )


def _join(block: nn.Module, names: tuple[str, ...]) -> Joined:
    parts = tuple(
        getattr(block.self_attn if hasattr(block.self_attn, name) else block.mlp, name) for name in names
    )
    bases = [getattr(part, "base_layer", part) for part in parts]
    weight = bases[0].weight if len(bases) == 1 else torch.cat([base.weight for base in bases])
    return Joined(weight.detach(), parts)


def _adapters(joined: Joined, dtype: torch.dtype) -> Adapters | None:
    adapted = [part for part in joined.parts if hasattr(part, "lora_A")]
    if not adapted:
        return None
    a = torch.cat([part.lora_A.default.weight for part in adapted]).to(dtype)
    pieces = []
    for part in joined.parts:
        own = part.lora_B.default.weight if part in adapted else a.new_zeros(part.out_features, 0)
        pieces.append(own.to(dtype))
    dropout = adapted[0].lora_dropout.default
    share = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    return Adapters(a, torch.block_diag(*pieces), adapted[0].scaling["default"], share)


def _linear(x: Tensor, joined: Joined, adapters: Adapters | None) -> Tensor:
    frozen = joined.frozen.to(x.dtype)
    if adapters is None:
        return F.linear(x, frozen)
    keep = None
    if adapters.dropout:
        keep = keep_mask(x.shape, adapters.dropout, _random_bytes(x.numel()), x.dtype).to(x.device)
    return LowRank.apply(x, frozen, adapters.a, adapters.b, adapters.scale, keep)


def _random_bytes(count: int) -> np.ndarray:
    """uint8[count], a function of torch's generator; thirty times as fast as drawing them there."""
    generator = np.random.SFC64(int(torch.randint(1 << 62, ())))
    return generator.random_raw(-(-count // 8)).view(np.uint8)[:count]


def _dtype(embeddings: Tensor) -> torch.dtype:
    """What autocast would compute in."""
    device: Any = embeddings.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embeddings.dtype
