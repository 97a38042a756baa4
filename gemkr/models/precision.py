"""The number formats that models compute in, by the names that configurations give them, and where the processor is slow at one."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch
from torch.nn import functional as F

from gemkr.errors import ModelError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOW = 4.0
"""How many times as long as in float32 products take at least to be warned of; without instructions for them 8 to 60 times."""
SIDE = 256

logger = logging.getLogger(__name__)


def dtype_of(precision: str) -> torch.dtype:
    """One of `PRECISIONS`; ModelError for another."""
    if precision not in PRECISIONS:
        raise ModelError(f"the precision {precision!r} is unknown; use {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which matrix products are computed in `dtype`, and none is changed for float32.

    The first one on a processor that has no instructions for `dtype` logs a warning, the others of the process do not.
    """
    other = dtype != torch.float32
    if other and device.type == "cpu":
        _warn_if_slow(dtype)
    return torch.autocast(device.type, dtype=dtype, enabled=other)


@cache
def _warn_if_slow(dtype: torch.dtype) -> None:
    """Measured, since torch names the instructions of some processors only, and not in all versions: 0.1 s where it is slow."""
    times = product_seconds(dtype) / product_seconds(torch.float32)
    if times > SLOW:
        name = next(name for name, known in PRECISIONS.items() if known == dtype)
        logger.warning(
            "precision: %s takes %.0f times as long as fp32 in matrix products on this processor, which has no instructions for it "
            "(such as AVX512_BF16 or AMX); set precision: fp32",
            name,
            times,
        )


@torch.no_grad()
def product_seconds(dtype: torch.dtype) -> float:
    """The shortest of five times of a product of two square matrices."""
    matrix, times = torch.ones(SIDE, SIDE, dtype=dtype), []
    for _ in range(5):
        began = time.perf_counter()
        F.linear(matrix, matrix)
        times.append(time.perf_counter() - began)
    return min(times)
