"""Low-rank adapters on encoders, and what of a network learns: all of it, or adapters and new layers alone.

A vision tower is never adapted, whatever a regular expression says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from gemkr.config.ranges import Positive, Share
from gemkr.errors import ModelError, first_line
from gemkr.models.weights import new_weights

VISION = re.compile(r"(^|\.)(vision_\w+|visual|visual_\w+|image_\w+|multi_modal_projector|connector)(\.|$)")
"""Modules of a vision tower, or between one and the rest, under the names of transformers' models."""


@dataclass(frozen=True)
class AdapterConfig:
    """LoRA, or DoRA where `dora`; `targets` is a regex on full names of linear modules."""

    r: Positive = 16
    alpha: Positive = 64
    dropout: Share = 0.1
    targets: str = r".*\.(q|k|v|o|gate|up|down|out)_proj"
    dora: bool = False


def prepare(network: nn.Module, adapters: AdapterConfig | None, *, fresh: Sequence[str]) -> None:
    """Let all of a network learn; with `adapters` these and its `fresh` parts (module names) alone.

    New adapters are the same ones every time. ModelError for a regex that is broken, matches nothing, or
    matches only parts of a vision tower.
    """
    if adapters is None:
        network.requires_grad_(True)
        return
    targets = linear_layers(network, adapters.targets, "adapters.targets", without=fresh)
    network.requires_grad_(False)
    import peft

    settings = peft.LoraConfig(
        r=adapters.r, lora_alpha=adapters.alpha, lora_dropout=adapters.dropout, use_dora=adapters.dora,
        target_modules=targets,
    )  # fmt: skip
    try:
        with new_weights():
            peft.inject_adapter_in_model(settings, network)
    except (ValueError, TypeError) as error:
        raise ModelError(f"adapters cannot be added at {adapters.targets!r}: {first_line(error)}") from error
    for name, parameter in network.named_parameters():
        if name.split(".")[0] in fresh:
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def linear_layers(
    network: nn.Module, targets: str, setting: str, *, without: Sequence[str] = (), within: str = ""
) -> str:
    """A regex of the full names of the linear modules that `targets` matches, those of a vision tower left out, and those of the
    parts `without`; with `within`, those in that part alone. ModelError for a regex that is broken or matches none."""
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ModelError(f"{setting} {targets!r} is no regular expression: {error}") from error
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    known = [
        name
        for name in names
        if not VISION.search(name) and name.split(".")[0] not in without and name.startswith(within)
    ]
    chosen = [name for name in known if pattern.fullmatch(name)]
    if not chosen:
        matched = [name for name in names if pattern.fullmatch(name)]
        seen = f"only parts of a vision tower, such as {matched[0]!r}" if matched else "no linear module"
        shown = next((name for name in names if not VISION.search(name)), "none")
        raise ModelError(
            f"{setting} {targets!r} matches {seen}; the network has {len(names)} linear modules, such as {shown!r}"
        )
    return "|".join(map(re.escape, chosen))
