"""Object-aware prefix tuning of a frozen vision tower (GeMKR, section 3.2: "dual-flow attention").

In each of the last K blocks a second, gated attention attends from the picture's tokens to R rows A_l = P_l + F, made of
a learned prefix P_l and the picture's region features F. The tower's attention modules are wrapped, never copied. Knows
nothing of language models, stores or pictures.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from timm.models.eva import EvaAttention
from torch import nn

from gemkr.errors import VisionError
from gemkr.models.gemkr.config import PrefixConfig
from gemkr.vision.encode import Tower


class AttentionAdapter(Protocol):
    """How to use the frozen projections of one kind of attention; tensors are [B, heads, N, width / heads]."""

    heads: int

    def query(self, x: torch.Tensor) -> torch.Tensor: ...

    def key_value(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]: ...

    def output(self, x: torch.Tensor) -> torch.Tensor:
        """[B, N, width] -> [B, N, width]: the output projection without its bias, which the block adds itself."""
        ...


class OpenClipAttention:
    """open_clip's ResidualAttentionBlock: `attn` is torch's MultiheadAttention."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        self.attention = attention
        self.heads = attention.num_heads

    def query(self, x: torch.Tensor) -> torch.Tensor:
        return self._project(x, 0)

    def key_value(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._project(rows, 1), self._project(rows, 2)

    def output(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.attention.out_proj.weight)

    def _project(self, x: torch.Tensor, part: int) -> torch.Tensor:
        weight = self.attention.in_proj_weight.chunk(3)[part]
        bias = None if self.attention.in_proj_bias is None else self.attention.in_proj_bias.chunk(3)[part]
        return _split(F.linear(x, weight, bias), self.heads)


class TimmEvaAttention:
    """timm's EvaBlock: fused or separate projections; prefix rows have no place in the picture, hence no rotation."""

    def __init__(self, attention: EvaAttention) -> None:
        if attention.gate is not None or not isinstance(attention.norm, nn.Identity):
            raise VisionError(
                "this EVA tower normalises or gates its attention before the output projection, which the object-aware "
                "prefix does not support; use EVA01, or an open_clip ViT"
            )
        self.attention = attention
        self.heads = attention.num_heads

    def query(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention.q_norm(self._project(x, 0))

    def key_value(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.attention.k_norm(self._project(rows, 1)), self._project(rows, 2)

    def output(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.attention.proj.weight)

    def _project(self, x: torch.Tensor, part: int) -> torch.Tensor:
        attention = self.attention
        if attention.qkv is None:
            return _split((attention.q_proj, attention.k_proj, attention.v_proj)[part](x), self.heads)
        bias = (attention.q_bias, attention.k_bias, attention.v_bias)[part]
        return _split(F.linear(x, attention.qkv.weight.chunk(3)[part], bias), self.heads)


class PrefixedAttention(nn.Module):
    """A frozen attention with a second softmax over A = prefix + region features, added through a gate per head.

    out = attention(x) + W_o concat_h(g_h softmax(Q K'^T / sqrt(d)) V'), K' = W_k A, V' = W_v A, biases included.
    With g = 0, its start, the output is the frozen one exactly.
    """

    def __init__(self, attention: nn.Module, rows: int, width: int) -> None:
        super().__init__()
        self.attention = attention
        self.prefix = nn.Parameter(torch.randn(rows, width) * 0.02)
        self.gate = nn.Parameter(torch.zeros(adapter_for(attention).heads))
        self.rows: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, *args, **kwargs):
        """Whatever the wrapped attention takes; returns what it returns, with the gated part added."""
        output = self.attention(x, *args, **kwargs)
        if self.rows is None:
            return output
        adapter = adapter_for(self.attention)
        key, value = adapter.key_value(self.rows)
        seen = F.scaled_dot_product_attention(adapter.query(x), key, value)
        seen = seen * self.gate.to(seen.dtype)[None, :, None, None]
        added = adapter.output(seen.transpose(1, 2).flatten(2))
        return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added


def adapter_for(attention: nn.Module) -> AttentionAdapter:
    """The adapter of an attention module; VisionError names a kind that has none."""
    if isinstance(attention, nn.MultiheadAttention) and attention.batch_first:
        return OpenClipAttention(attention)
    if isinstance(attention, EvaAttention):
        return TimmEvaAttention(attention)
    raise VisionError(
        f"the object-aware prefix has no adapter for attention of type {type(attention).__name__}; use an open_clip ViT "
        "or a timm EVA trunk"
    )


class PrefixedTower(nn.Module):
    """A frozen tower with a prefix in its last blocks; only prefixes and gates have gradients."""

    def __init__(self, tower: Tower, config: PrefixConfig) -> None:
        """Wraps the attention of the last `config.blocks` blocks of `tower`, in place."""
        super().__init__()
        if config.rows < 1:
            raise VisionError(f"the prefix needs at least 1 row, the configuration gives {config.rows}")
        if not 0 <= config.blocks <= len(tower.blocks):
            raise VisionError(
                f"the tower has {len(tower.blocks)} blocks, a prefix in {config.blocks} of them is asked for; lower prefix.blocks"
            )
        self.tower = tower
        self.n_rows = config.rows
        for block in list(tower.blocks)[len(tower.blocks) - config.blocks :]:
            block.attn = PrefixedAttention(block.attn, config.rows, tower.width)
        self.train(self.training)

    @property
    def attentions(self) -> list[PrefixedAttention]:
        """The wrapped attentions, first block to last."""
        return [block.attn for block in self.tower.blocks if isinstance(block.attn, PrefixedAttention)]

    def forward(self, pixels: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32[B, 3, H, W] and float[B, R, width] -> CLS states [B, width] and the last block's A [B, R, width].

        Rows of `features` beyond a picture's own count must be zero (see `keep_rows`).
        """
        attentions = self.attentions
        features = features.to(self.tower.dtype)
        rows = features
        try:
            for attention in attentions:
                rows = attention.rows = features + attention.prefix.to(features.dtype)
            return self.tower(pixels), rows
        finally:
            for attention in attentions:
                attention.rows = None


def keep_rows(features: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """[B, R, width] with every row at or beyond `counts[b]` set to zero, whatever it held (NaN included)."""
    own = torch.arange(features.shape[1], device=features.device)[None, :] < counts[:, None]
    return torch.where(
        own[:, :, None], features, torch.zeros((), dtype=features.dtype, device=features.device)
    )


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    batch, length, _ = x.shape
    return x.reshape(batch, length, heads, -1).transpose(1, 2)
