"""The number formats that models compute in, by the names that configurations give them."""

from __future__ import annotations

import torch

from gemkr.errors import ModelError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: str) -> torch.dtype:
    """One of `PRECISIONS`; ModelError for another."""
    if precision not in PRECISIONS:
        raise ModelError(f"the precision {precision!r} is unknown; use {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]
