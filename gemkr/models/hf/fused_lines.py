"""Attention of rows that are read from left to right: each row by itself, without its padding and without a mask.

The same function as `Attention` under a causal mask, in float32; knows no modules.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gemkr.models.hf.fused_parts import Memory


@dataclass(frozen=True, slots=True)
class Lines:
    """Where N tokens stand, row by row: `lengths`, the tokens of each of B rows, `places` int64[N], their flat places among B rows of
    `length`, ascending; `cos`, `sin` float32[N, 1, D / 2]."""

    lengths: list[int]
    length: int
    places: Tensor
    cos: Tensor
    sin: Tensor


def attend_causal(
    joined: Tensor, lines: Lines, heads: int, shared: int, *, keep: bool
) -> tuple[Tensor, Memory | None]:
    """Queries, keys and values of all heads side by side, float[N, (H + 2 K) D] -> float[N, H D], and with `keep` what later tokens
    see of them."""
    parts = joined.view(len(joined), heads + 2 * shared, -1).float()
    value = parts[:, heads + shared :]
    first, second = parts[:, : heads + shared].chunk(2, dim=-1)
    turned = torch.cat(
        [first * lines.cos - second * lines.sin, second * lines.cos + first * lines.sin], dim=-1
    )
    rows = zip(
        *(part.split(lines.lengths) for part in (turned[:, :heads], turned[:, heads:], value)), strict=True
    )
    seen = torch.cat([_one_row(*row) for row in rows]).to(joined.dtype)
    kept = Memory(_on_grid(turned[:, heads:], lines), _on_grid(value, lines)) if keep else None
    return seen, kept


def _one_row(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """[T, H, D], [T, K, D] and [T, K, D] -> [T, H D]."""
    if not len(query):
        return query.flatten(1)
    wide = (part.transpose(0, 1)[None] for part in (query, key, value))
    return (
        F.scaled_dot_product_attention(*wide, is_causal=True, enable_gqa=True)[0].transpose(0, 1).flatten(1)
    )


def _on_grid(parts: Tensor, lines: Lines) -> Tensor:
    """[N, K, D] -> [B, K, T, D], zeros where no token stands."""
    full = parts.new_zeros(len(lines.lengths) * lines.length, *parts.shape[1:])
    full = full.index_copy_(0, lines.places, parts.detach())
    return full.view(len(lines.lengths), lines.length, *parts.shape[1:]).transpose(1, 2)
