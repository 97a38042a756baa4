"""A LLaMA read in one pass written for training on CPUs: tokens without padding, queries, keys and values in one product,
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
from gemkr.models.hf.fused_parts import Attention, Grid, LowRank, RMSNorm, SwiGLU, keep_mask

GROUPS = {
    "attention": ("q_proj", "k_proj", "v_proj"),
    "out": ("o_proj",),
    "inner": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}
"""Linear layers of a block that read the same states."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Linear layers that read the same states, side by side: their weights [O, I], and the modules themselves."""

    frozen: Tensor
    parts: tuple[nn.Module, ...]


class FusedLlama:
    """The pass over one `LlamaForCausalLM` with frozen weights and perhaps adapters. Holds a second copy of the weights
    that stand side by side."""

    def __init__(self, model: nn.Module) -> None:
        """Raises ModelError as `require_fusable`."""
        require_fusable(model)
        body = model.base_model
        self.config, self.rotary, self.norm, self.blocks = (
            model.config,
            body.rotary_emb,
            body.norm,
            body.layers,
        )
        self.joined = [{name: _join(block, parts) for name, parts in GROUPS.items()} for block in self.blocks]

    def __call__(self, embeddings: Tensor, visible: Tensor, positions: Tensor, real: Tensor) -> Tensor:
        """Last states [B, T, hidden] of embeddings [B, T, hidden]: token i sees what `visible` bool[B, i, T] marks and stands
        at `positions` int64[B, T]; places that `real` bool[B, T] does not mark are passed over and hold zeros."""
        rows, length = real.shape
        places = real.flatten().nonzero()[:, 0]
        grid = self._grid(visible, positions, places)
        dtype = _dtype(embeddings)
        states = embeddings.flatten(0, 1)[places].to(dtype)
        with torch.autocast(embeddings.device.type, enabled=False):
            for block, joined in zip(self.blocks, self.joined):
                states = self._block(states, block, joined, grid)
            states = RMSNorm.apply(states, self.norm.weight.to(dtype), self.norm.variance_epsilon)
        full = states.new_zeros(rows * length, states.shape[1]).index_copy(0, places, states)
        return full.view(rows, length, -1)

    def _block(self, states: Tensor, block: nn.Module, joined: dict[str, Joined], grid: Grid) -> Tensor:
        config, dtype = self.config, states.dtype
        attention, mlp = block.input_layernorm, block.post_attention_layernorm
        read = RMSNorm.apply(states, attention.weight.to(dtype), attention.variance_epsilon)
        read = _linear(read, joined["attention"])
        read = Attention.apply(read, grid, config.num_attention_heads, config.num_key_value_heads)
        states = states + _linear(read, joined["out"])
        inner = RMSNorm.apply(states, mlp.weight.to(dtype), mlp.variance_epsilon)
        inner = SwiGLU.apply(_linear(inner, joined["inner"]))
        return states + _linear(inner, joined["down"])

    def _grid(self, visible: Tensor, positions: Tensor, places: Tensor) -> Grid:
        rows, length = positions.shape
        keys = self.config.num_key_value_heads
        shared = self.config.num_attention_heads // keys
        bias = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[:, None, None]
        bias = bias.expand(rows, keys, shared, length, length).reshape(rows * keys, shared * length, length)
        cos, sin = self.rotary(torch.zeros((), device=positions.device), positions.flatten()[places][None])
        half = cos.shape[-1] // 2
        return Grid(rows, length, places, bias, cos[0, :, None, :half], sin[0, :, None, :half])


def require_fusable(model: nn.Module) -> None:
    """ModelError unless the model is a LLaMA as transformers builds it, its own weights frozen and without biases."""
    kind = getattr(model.config, "model_type", "model")
    if kind != "llama" or model.config.hidden_act != "silu":
        raise ModelError(f"model.fused is for LLaMAs, this is a {kind}; set it to false")
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


def _linear(x: Tensor, joined: Joined) -> Tensor:
    frozen = joined.frozen.to(x.dtype)
    adapted = [part for part in joined.parts if hasattr(part, "lora_A")]
    if not adapted:
        return F.linear(x, frozen)
    first = adapted[0]
    a = torch.cat([part.lora_A.default.weight for part in adapted]).to(x.dtype)
    pieces = []
    for part in joined.parts:
        own = part.lora_B.default.weight if part in adapted else frozen.new_zeros(part.out_features, 0)
        pieces.append(own.to(x.dtype))
    dropout = first.lora_dropout.default
    share = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
    keep = None if not share else keep_mask(x.shape, share, _random_bytes(x.numel()).to(x.device), x.dtype)
    return LowRank.apply(x, frozen, a, torch.block_diag(*pieces), first.scaling["default"], keep)


def _random_bytes(count: int) -> Tensor:
    """uint8[count], a function of torch's generator; six times as fast as drawing them there."""
    seed = int(torch.randint(1 << 62, ()))
    return torch.frombuffer(
        bytearray(np.random.Generator(np.random.SFC64(seed)).bytes(count)), dtype=torch.uint8
    )


def _dtype(embeddings: Tensor) -> torch.dtype:
    """What autocast would compute in."""
    device: Any = embeddings.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else embeddings.dtype
