"""The output head of a fused model is multiplied once, never copied for each row."""

from __future__ import annotations

from typing import Any

import pytest
from test_batches import apart
from test_fused import network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


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
