"""Checkpoints of encoders: what is over what, and putting it into a network again."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gemkr.errors import CheckpointError
from gemkr.models.weights import load_weights, trained_parameters, weights_digest
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.origin import require_bases

KIND = "contrastive"
NETWORK = "network."
"""Before the names of an encoder's parameters in a checkpoint; what else learned (a temperature) has none."""


def bases_of(network: nn.Module) -> dict[str, str]:
    """The fingerprint of the weights that do not learn, none where all learn."""
    frozen = {name: p for name, p in network.named_parameters() if not p.requires_grad}
    return {"encoder": weights_digest(frozen)} if frozen else {}


def put_in_encoder(network: nn.Module, path: str | Path) -> None:
    """Load a checkpoint's parameters into a network, strictly; CheckpointError where they do not belong there."""
    checkpoint = read_checkpoint(path)
    if checkpoint.origin.kind != KIND:
        raise CheckpointError(
            f"the checkpoint {path} is of the kind {checkpoint.origin.kind!r}, an encoder's is {KIND!r}; give a step-* or final "
            "folder of a contrastive gemkr train"
        )
    weights = {n.removeprefix(NETWORK): w for n, w in checkpoint.weights.items() if n.startswith(NETWORK)}
    load_weights(
        trained_parameters(network),
        weights,
        f"the checkpoint {path}",
        model="this encoder",
        remedy="use the encoder settings it was trained with",
    )
    require_bases(checkpoint.origin, bases_of(network), path)
