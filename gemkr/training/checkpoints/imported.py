"""What an importer of somebody else's checkpoint makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gemkr.training.checkpoints.origin import Origin


@dataclass(frozen=True)
class Imported:
    """What a checkpoint of ours needs; `ignored`: their tensors that nothing depends on; `beside`: plain values in their file."""

    origin: Origin
    weights: dict[str, Tensor]
    ignored: list[str]
    beside: dict[str, Any]
