"""Rows read from left to right: the same as attention under a mask, and the output head is never copied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_batches import apart
from test_fused import both_ways, close, network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from gemkr.models.hf.fused_lines import Lines, attend_causal
from gemkr.models.hf.fused_parts import Attention, Grid, attend

HEADS, SHARED, SIZE = 6, 2, 4


def layouts(lengths: list[int], width: int) -> tuple[Grid, Lines]:
    """The same left-padded rows under a mask, and as lines."""
    real = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    places = real.flatten().nonzero()[:, 0]
    seen = real[:, None] & torch.ones(width, width, dtype=torch.bool).tril()
    bias = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None, None]
    group = HEADS // SHARED
    bias = bias.expand(-1, SHARED, group, -1, -1).reshape(len(lengths) * SHARED, group * width, width)
    angles = torch.rand(len(places), 1, SIZE // 2)
    turns = angles.cos(), angles.sin()
    return Grid(len(lengths), width, places, bias, *turns), Lines(lengths, width, places, *turns)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(any), seed=st.integers(0, 99))
def test_attention_line_by_line_is_attention_under_a_mask(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    grid, lines = layouts(lengths, 7)
    joined = torch.randn(sum(lengths), (HEADS + 2 * SHARED) * SIZE)
    found = both_ways(lambda x: attend_causal(x, lines, HEADS, SHARED, keep=False)[0], joined)
    close(found, both_ways(lambda x: Attention.apply(x, grid, HEADS, SHARED), joined))
    seen, memory = attend_causal(joined, lines, HEADS, SHARED, keep=True)
    expected, kept = attend(joined, grid, HEADS, SHARED, None)
    close([seen, memory.keys, memory.values], [expected, kept.keys, kept.values])


class Products(TorchDispatchMode):
    """Notes the shapes of the operands of batched matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "bmm" in str(func):
            self.shapes += [tuple(arg.shape) for arg in args if isinstance(arg, Tensor)]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_head_is_multiplied_once_and_not_for_each_row(precision: str) -> None:
    """torch copies it for every row of a slice of the states: for 49,152 tokens and 16 rows 900 MB."""
    model, batch = network(True, precision=precision).train(), apart()
    with Products() as seen:
        model(batch)
    assert not [shape for shape in seen.shapes if model.vocab_size in shape]
