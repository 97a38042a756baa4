"""Products in a number format that the processor is slow at: one sentence, once a process, and the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from test_batches import apart
from test_fused import network
from torch import nn

from gemkr.models import precision
from gemkr.models.precision import autocast, product_seconds
from gemkr.models.token_embedder import TokenEmbedder
from gemkr.training.loop.config import LoopConfig
from gemkr.training.loop.step import Stepper
from gemkr.types import Document

CPU = torch.device("cpu")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.dtype]]:
    """A processor that takes forty times as long for bf16; what was measured, in order."""
    asked: list[torch.dtype] = []

    def seconds(dtype: torch.dtype) -> float:
        asked.append(dtype)
        return 0.04 if dtype is torch.bfloat16 else 0.001

    monkeypatch.setattr(precision, "product_seconds", seconds)
    precision._warn_if_slow.cache_clear()
    yield asked
    precision._warn_if_slow.cache_clear()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "gemkr.models.precision"]


def test_a_slow_format_is_named_once_with_the_way_out(
    measured: list[torch.dtype], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with autocast(CPU, torch.bfloat16):
            pass
    assert measured == [torch.bfloat16, torch.float32]
    (warning,) = said(caplog)
    assert warning.startswith("precision: bf16 takes 40 times as long as fp32 in matrix products")
    assert warning.endswith("set precision: fp32")
    assert caplog.records[-1].levelno == logging.WARNING


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_format_that_is_fast_or_elsewhere_is_not_named(
    measured: list[torch.dtype], caplog: pytest.LogCaptureFixture
) -> None:
    with autocast(CPU, torch.float16):
        pass
    assert measured == [torch.float16, torch.float32]
    with autocast(CPU, torch.float32), autocast(torch.device("cuda"), torch.bfloat16):
        pass
    assert len(measured) == 2
    assert not said(caplog)


class Tokens(nn.Module):
    """A network that gives each token a vector."""

    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.layer(inputs["x"])


def clues_are_written() -> None:
    with torch.no_grad():
        network(False, precision="bf16")(apart())


def passages_are_encoded() -> None:
    reader = SimpleNamespace(documents=lambda documents: {"x": torch.ones(len(documents), 3, 4)})
    encoder = TokenEmbedder(Tokens(), reader, batch_size=2, facts={}, precision="bf16")
    encoder.encode_documents([Document("1", "fox")])


def a_step_is_taken() -> None:
    accelerator = SimpleNamespace(device=CPU, prepare=lambda model: model)
    config = LoopConfig(output="")
    with Stepper(nn.Linear(2, 2), accelerator, config, "bf16")._autocast():
        assert torch.get_autocast_dtype("cpu") is torch.bfloat16


@pytest.mark.parametrize("work", [clues_are_written, passages_are_encoded, a_step_is_taken])
def test_whatever_computes_in_it_says_so(
    work: Callable[[], None], measured: list[torch.dtype], caplog: pytest.LogCaptureFixture
) -> None:
    work()
    assert len(said(caplog)) == 1


def test_products_are_what_torch_makes_them() -> None:
    x = torch.randn(5, 7)
    with autocast(CPU, torch.bfloat16):
        found = x @ x.T
    assert torch.equal(found, x.bfloat16() @ x.bfloat16().T)
    with autocast(CPU, torch.float32):
        assert torch.equal(x @ x.T, torch.matmul(x, x.T))
    assert 0 < product_seconds(torch.float32) < 1
