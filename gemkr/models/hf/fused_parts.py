"""The parts of a LLaMA's layer as functions with hand-written gradients: fewer passes over memory than autograd makes.

Each is the same function as in transformers; in bf16 sums, norms, rotations and attention are computed in float32. Slow twins
stand in the tests. Rows are tokens, N of them, without padding; knows no modules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Grid:
    """Where N tokens stand among B rows of T places, and what each sees.

    `places` int64[N]: flat places, ascending; `bias` float32[B * K, G * T, T]: 0 where a query sees a key, the least number
    elsewhere, for K key heads that G query heads share each; `cos`, `sin` float32[N, 1, D / 2].
    """

    rows: int
    length: int
    places: Tensor
    bias: Tensor
    cos: Tensor
    sin: Tensor


class RMSNorm(Function):
    """float[N, H], weight float[H] -> float[N, H]; the weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = wide.square().mean(dim=-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (wide * scale).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        unit = x.float().mul_(scale)
        grad = grad.float() * weight
        inner = torch.einsum("nh,nh->n", grad, unit).div_(x.shape[-1])[:, None]
        return grad.sub_(unit.mul_(inner)).mul_(scale).to(x.dtype), None, None


class SwiGLU(Function):
    """Gate and up side by side, float[N, 2 I] -> silu(gate) * up, float[N, I]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        gate, up = both.chunk(2, dim=-1)
        opened = F.silu(gate)
        ctx.save_for_backward(both, opened)
        return opened * up

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        both, opened = ctx.saved_tensors
        gate, up = both.chunk(2, dim=-1)
        result = torch.empty_like(both)
        torch.mul(grad, opened, out=result[:, gate.shape[1] :])
        result[:, : gate.shape[1]] = torch.ops.aten.silu_backward(grad * up, gate)
        return result


class LowRank(Function):
    """x float[N, I] -> x W' + scale * (x keep) A' B', for frozen W [O, I], A [R, I] and B [O, R] of x's dtype.

    `keep` float[N, I] is what dropout multiplies x with, or None. W + scale B A is never made.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: Tensor, a: Tensor, b: Tensor, scale: float, keep: Tensor | None
    ) -> Tensor:
        kept = x if keep is None else x * keep
        inner = F.linear(kept, a)
        ctx.save_for_backward(frozen, a, b, keep, kept, inner)
        ctx.scale = scale
        return F.linear(x, frozen).addmm_(inner, b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        frozen, a, b, keep, kept, inner = ctx.saved_tensors
        through = (grad @ b).mul_(ctx.scale)
        down, up = through.t() @ kept, (grad.t() @ inner).mul_(ctx.scale)
        if not ctx.needs_input_grad[0]:
            return None, None, down, up, None, None
        if keep is None:
            return (grad @ frozen).addmm_(through, a), None, down, up, None, None
        return (grad @ frozen).addcmul_(through @ a, keep), None, down, up, None, None


class Attention(Function):
    """Queries, keys and values of all heads side by side, float[N, (H + 2 K) D] -> float[N, H D]: rotated, scaled, masked.

    Works in float32 and keeps the weights of attention, float32[B, H, T, T], for the way back.
    """

    @staticmethod
    def forward(ctx: Any, joined: Tensor, grid: Grid, heads: int, shared: int) -> Tensor:
        query, key, value = _turned(joined, grid, heads, shared)
        weights = torch.baddbmm(grid.bias, query, key.transpose(1, 2)).softmax(dim=-1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.grid, ctx.heads, ctx.shared = grid, heads, shared
        return _gather(weights @ value, grid, shared).to(joined.dtype).view(len(joined), -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        query, key, value, weights = ctx.saved_tensors
        grid, heads, shared = ctx.grid, ctx.heads, ctx.shared
        size = query.shape[2]
        wide = grad.view(len(grad), heads, size).float()
        (out,) = _spread(wide, grid, heads, 0, shared)
        of_value = weights.transpose(1, 2) @ out
        of_weights = out @ value.transpose(1, 2)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, torch.float32)
        of_query, of_key = of_scores @ key, of_scores.transpose(1, 2) @ query
        result = wide.new_empty(len(grad), heads + 2 * shared, size)
        result[:, :heads] = _gather(of_query.mul_(size**-0.5), grid, shared)
        result[:, heads : heads + shared] = _gather(of_key, grid, shared)
        result[:, heads + shared :] = _gather(of_value, grid, shared)
        _rotate(result[:, : heads + shared], grid.cos, -grid.sin)
        return result.to(grad.dtype).view(len(grad), -1), None, None, None


@dataclass(slots=True)
class Memory:
    """Rotated keys and the values of one layer, float32[B, K, L, D] each."""

    keys: Tensor
    values: Tensor

    def reorder_cache(self, rows: Tensor) -> None:
        """Keep the rows int64[B'] alone, in this order."""
        self.keys, self.values = self.keys[rows], self.values[rows]


def attend(
    joined: Tensor, grid: Grid, heads: int, shared: int, before: Memory | None
) -> tuple[Tensor, Memory]:
    """`Attention` without a way back, which also sees what came before: `grid.bias` is [B * K, G * T, L + T]."""
    query, key, value = _turned(joined, grid, heads, shared)
    now = Memory(*(part.view(grid.rows, shared, *part.shape[1:]) for part in (key, value)))
    if before is not None:
        now.keys = torch.cat([before.keys, now.keys], dim=2)
        now.values = torch.cat([before.values, now.values], dim=2)
    weights = torch.baddbmm(grid.bias, query, now.keys.flatten(0, 1).transpose(1, 2)).softmax(dim=-1)
    seen = _gather(weights @ now.values.flatten(0, 1), grid, shared)
    return seen.to(joined.dtype).view(len(joined), -1), now


class TargetLoss(Function):
    """The cross entropy float32[n] of `targets` int64[n], each behind the state `owners` int64[n] of [R, H], under a frozen
    head [V, H]. Logits are computed once, for rows with a target, and never kept in float32."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Tensor, owners: Tensor, targets: Tensor) -> Tensor:
        logits = F.linear(states, head)
        norm = torch.cat([part.float().logsumexp(dim=-1) for part in logits.split(LOT)])
        ctx.save_for_backward(logits, norm, head, owners, targets)
        return norm[owners] - logits[owners, targets].float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        logits, norm, head, owners, targets = ctx.saved_tensors
        weight = torch.zeros_like(norm).index_add_(0, owners, grad)
        of_logits = torch.empty_like(logits)
        for start in range(0, len(logits), LOT):
            lot = slice(start, start + LOT)
            shares = logits[lot].float().sub_(norm[lot, None]).exp_()
            of_logits[lot] = shares.mul_(weight[lot, None])
        of_logits.index_put_((owners, targets), -grad.to(logits.dtype), accumulate=True)
        return of_logits @ head, None, None, None


LOT = 8
"""Rows of logits that are turned to float32 at a time: they stay in the cache."""


def keep_mask(shape: torch.Size, share: float, bits: np.ndarray, dtype: torch.dtype) -> Tensor:
    """What dropout multiplies with, [shape]: 0 for a `share` of the places, rounded to 1/256, by random uint8 `bits`, one a
    place. numpy compares bytes ten times as fast as torch does."""
    cut = round(share * 256)
    kept = torch.tensor(256 / (256 - cut), dtype=dtype)
    whole = np.uint16 if dtype.itemsize == 2 else np.uint32
    pattern = kept.view(torch.int16 if dtype.itemsize == 2 else torch.int32).numpy().view(whole)
    return torch.from_numpy(np.multiply(bits >= cut, pattern, dtype=whole)).view(dtype).view(shape)


def _turned(joined: Tensor, grid: Grid, heads: int, shared: int) -> list[Tensor]:
    """Scaled queries, keys and values on the grid, the first two rotated; `joined` stays as it is."""
    size = joined.shape[1] // (heads + 2 * shared)
    parts = joined.view(len(joined), -1, size).to(torch.float32, copy=True)
    _rotate(parts[:, : heads + shared], grid.cos, grid.sin)
    parts[:, :heads] *= size**-0.5
    return _spread(parts, grid, heads, shared)


def _rotate(parts: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Turn [N, heads, D] by the angles of each token, in place: halves against each other."""
    first, second = parts.chunk(2, dim=-1)
    turned = first * cos - second * sin
    second.mul_(cos).add_(first * sin)
    first.copy_(turned)


def _spread(parts: Tensor, grid: Grid, heads: int, shared: int, keys: int = 0) -> list[Tensor]:
    """Tokens of all heads [N, H + 2 K, D] on the grid: queries float32[B * K, G * T, D], keys and values [B * K, T, D]."""
    rows, length, keys = grid.rows, grid.length, keys or shared
    full = parts.new_zeros(rows * length, *parts.shape[1:]).index_copy_(0, grid.places, parts)
    full = full.view(rows, length, *parts.shape[1:]).transpose(1, 2)
    size = parts.shape[2]
    spread = [full[:, :heads].reshape(rows * keys, -1, size)]
    for start in (heads, heads + shared)[: 2 * bool(shared)]:
        spread.append(full[:, start : start + shared].reshape(rows * keys, length, size))
    return spread


def _gather(full: Tensor, grid: Grid, shared: int) -> Tensor:
    """The inverse for one of them: [B * K, G * T, D] -> [N, K * G, D]."""
    rows, length = grid.rows, grid.length
    heads = shared * full.shape[1] // length
    return full.view(rows, heads, length, -1).transpose(1, 2).reshape(rows * length, heads, -1)[grid.places]
