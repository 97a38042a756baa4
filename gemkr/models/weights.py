"""Reading a model's trained parameters and loading them again: the one way, strict about names and shapes. Knows tensors by name only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gemkr.errors import CheckpointError

NAMED = 3
"""How many of the names that do not fit an error shows."""


@contextmanager
def new_weights() -> Iterator[None]:
    """Within, random weights of new layers are the same ones every time; torch's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter of everything that learns, in the model's own order; tied weights appear once."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def load_weights(
    targets: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    where: str,
    *,
    model: str = "this model",
    remedy: str = "use the model settings it was trained with",
) -> None:
    """Copy `weights` into the tensors of the same name, strictly: both must name the same tensors and shapes.

    Raises CheckpointError, before anything is copied, that names what is missing, unexpected or of another shape; `where`
    ("the checkpoint runs/final") is what holds the weights, `model` what they are for.
    """
    missing, unexpected = sorted(targets.keys() - weights.keys()), sorted(weights.keys() - targets.keys())
    if missing or unexpected:
        parts = [
            f"{word} {len(names)} ({', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''})"
            for word, names in (("lacks", missing), ("has unexpected", unexpected))
            if names
        ]
        raise CheckpointError(
            f"{where} does not fit {model}: it {' and '.join(parts)} of the trained parameters; {remedy}"
        )
    for name, target in targets.items():
        if weights[name].shape != target.shape:
            raise CheckpointError(
                f"{where} does not fit {model}: {name!r} has shape {list(weights[name].shape)}, the model has "
                f"{list(target.shape)}; {remedy}"
            )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(weights[name])


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, names included; about a second per gigabyte."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
