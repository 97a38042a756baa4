"""BLIP's momentum queue (UniIR's BLIP encoders): a slow copy of the encoder, and the vectors that it made of earlier batches.

From the papers of MoCo and ALBEF/BLIP: after each batch the copy is `momentum` times itself plus the rest of the encoder; queries are
compared with the copy's documents of this batch and of the queue, documents with its queries; what is right is a mixture of the known
pairs and of what the copy finds alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from gemkr.errors import CheckpointError
from gemkr.training.contrastive.config import QueueConfig
from gemkr.training.contrastive.gather import NONE


class MomentumQueue(nn.Module):
    """The copy (`follower`), and the last `size` vectors of documents and of queries with the number of the document that each is
    or wants; NONE where none was put in yet. `steps` counts batches."""

    def __init__(self, network: nn.Module, config: QueueConfig) -> None:
        super().__init__()
        self.config = config
        self.follower = deepcopy(network).requires_grad_(False)
        for side in ("queries", "documents"):
            self.register_buffer(side, torch.zeros(config.size, network.width))
            self.register_buffer(f"{side}_wanted", torch.full((config.size,), NONE))
            self.register_buffer(f"{side}_next", torch.zeros((), dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def follow(self, network: nn.Module) -> nn.Module:
        """The copy, one step nearer to the network, ready to encode."""
        for own, theirs in zip(self.follower.parameters(), network.parameters(), strict=True):
            own.lerp_(theirs, 1 - self.config.momentum)
        return self.follower.eval()

    @torch.no_grad()
    def put(self, side: str, vectors: Tensor, wanted: Tensor) -> None:
        """Keep `vectors` [n, width] and `wanted` int64[n], in the place of the oldest; of more than `size` the last ones."""
        size, start = self.config.size, int(getattr(self, f"{side}_next"))
        vectors, wanted = vectors[-size:], wanted[-size:]
        places = (start + torch.arange(len(vectors), device=vectors.device)) % size
        getattr(self, side)[places] = vectors.float()
        getattr(self, f"{side}_wanted")[places] = wanted
        getattr(self, f"{side}_next").fill_((start + len(vectors)) % size)

    def alpha(self) -> float:
        """The share of what the copy finds alike: `alpha`, or less in the first `ramp_steps` batches."""
        ramp = self.config.ramp_steps
        return self.config.alpha * (min(1.0, int(self.steps) / ramp) if ramp else 1.0)

    def carried(self) -> dict[str, Tensor]:
        """All that a resumed run needs, by name."""
        return dict(self.state_dict())

    def recall(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `carried`; CheckpointError where it does not fit."""
        try:
            self.load_state_dict(dict(tensors))
        except RuntimeError as error:
            raise CheckpointError(
                "the checkpoint's momentum queue does not fit this encoder; resume with the settings of its config.json"
            ) from error


def soft_loss(
    vectors: Tensor,
    copies: Tensor,
    others: Tensor,
    right: Tensor,
    left_out: Tensor,
    scale: Tensor | float,
    alpha: float,
) -> Tensor:
    """float32[B]: each vector's cross entropy over the `others` [N, width], divided by what is right.

    `right` bool[B, N] are the known pairs, which share 1 - alpha evenly; alpha is shared as the softmax of the similarities of
    `copies` [B, width], the copy's vectors of the same items. `left_out` bool[B, N] takes no part.
    """
    logits = (vectors.float() @ others.float().T * scale).masked_fill(left_out, -math.inf)
    with torch.no_grad():
        alike = (copies.float() @ others.float().T * scale).masked_fill(left_out, -math.inf).softmax(dim=1)
        known = right.float() / right.sum(dim=1, keepdim=True)
        wanted = alpha * alike + (1 - alpha) * known
    log_probs = logits.log_softmax(dim=1).masked_fill(left_out, 0.0)
    return -(wanted * log_probs).sum(dim=1)
