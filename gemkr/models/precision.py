"""The number formats that models compute in, by the names that configurations give them, and where the processor is slow at one."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch
from torch.nn import functional as F

from gemkr.errors import ModelError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SLOW = 1.5
"""How many times as long as in float32 products take at least to be warned of: 8 to 60 times where a processor has no instructions for
them (AVX512_BF16, AMX), 1.9 times on some that have."""
SIDE = 256

logger = logging.getLogger(__name__)


def dtype_of(precision: str) -> torch.dtype:
    """One of `PRECISIONS`; ModelError for another."""
    if precision not in PRECISIONS:
        raise ModelError(f"the precision {precision!r} is unknown; use {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which matrix products are computed in `dtype`, and none is changed for float32.

    The first one on a processor that is slower at `dtype` logs a warning, the others of the process do not.
    """
    other = dtype != torch.float32
    if other and device.type == "cpu":
        _warn_if_slow(dtype)
    return torch.autocast(device.type, dtype=dtype, enabled=other)


@cache
def _warn_if_slow(dtype: torch.dtype) -> None:
    """Measured, 0.1 s where it is slow, since instructions say little: a processor with AVX512_BF16 may be slower than in float32."""
    times = product_seconds(dtype) / product_seconds(torch.float32)
    if times > SLOW:
        name = next(name for name, known in PRECISIONS.items() if known == dtype)
        logger.warning(
            "precision: %s takes %.2g times as long as fp32 in matrix products on this processor; set precision: fp32",
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
