"""From encoders' states to the language model's input space: whole-picture tokens, region tokens, read text.

Knows widths and boxes, nothing of towers or language models.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

BOX_FEATURES = 6


class Projector(nn.Module):
    """LayerNorm and Linear(width -> hidden), shared by all tokens of one kind; regions add an embedding of their box.

    `scale` is the standard deviation that tokens have at the start: that of the language model's own embeddings.
    """

    def __init__(self, width: int, hidden: int, scale: float, *, boxed: bool = True) -> None:
        """`boxed`: whether there will be boxes."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, hidden)
        if boxed:
            self.box = nn.Linear(BOX_FEATURES, hidden, bias=False)
        nn.init.normal_(self.linear.weight, std=scale / width**0.5)
        nn.init.zeros_(self.linear.bias)
        if boxed:
            nn.init.normal_(self.box.weight, std=0.5 * scale / BOX_FEATURES**0.5)

    def forward(self, states: torch.Tensor, boxes: torch.Tensor | None = None) -> torch.Tensor:
        """[..., width] (and float32[..., 4] boxes, xyxy in shares of the picture) -> [..., hidden]."""
        dtype = self.norm.weight.dtype
        tokens = self.linear(self.norm(states.to(dtype)))
        return tokens if boxes is None else tokens + self.box(box_features(boxes.to(dtype)))


def box_features(boxes: torch.Tensor) -> torch.Tensor:
    """[..., 4] xyxy in shares of the picture -> [..., 6]: centre x, y, width, height, area (about -1..1), and 1."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    width, height = x1 - x0, y1 - y0
    features = (x0 + x1 - 1, y0 + y1 - 1, width, height, width * height, torch.ones_like(x0))
    return torch.stack(features, -1)


def reading_order(boxes: np.ndarray) -> np.ndarray:
    """int64[n]: the order of n boxes (float[n, 4], xyxy) from left to right by centre, then from top to bottom."""
    return np.lexsort((boxes[:, 1] + boxes[:, 3], boxes[:, 0] + boxes[:, 2]))
