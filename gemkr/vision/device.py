"""Names of devices, checked before hours of work. Knows torch's names, nothing of what runs there."""

from __future__ import annotations

import torch

from gemkr.errors import VisionError


def require_device(name: str) -> torch.device:
    """The device of a name such as cpu or cuda:1; VisionError for a name that torch or this machine does not know."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise VisionError(f"the device {name!r} is unknown; use cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise VisionError(
            f"the device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices; use cpu"
        )
    return device
