"""A published state dict with the names of one of our networks: where each of our tensors comes from, held against what is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Size, Tensor

from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.naming import listed


@dataclass(frozen=True)
class Source:
    """The tensor of theirs that one of ours is: `part` of `parts` along the first axis, turned round where `transposed`.

    `name` may be one of several names.
    """

    names: tuple[str, ...]
    part: int = 0
    parts: int = 1
    transposed: bool = False

    def shape(self, own: Size) -> list[int]:
        """What theirs must have for ours to have the shape `own`."""
        return list(own)[::-1] if self.transposed else [self.parts * own[0], *own[1:]] if own else []

    def take(self, value: Tensor) -> Tensor:
        """Ours, float32 and with memory of its own, from theirs."""
        if self.parts > 1:
            value = value.chunk(self.parts)[self.part]
        return (value.T if self.transposed else value).float().clone().contiguous()


def renamed(
    state: Mapping[str, Tensor],
    sources: Mapping[str, Source],
    shapes: Mapping[str, Size],
    unused: re.Pattern[str],
    where: str | Path,
) -> tuple[dict[str, Tensor], list[str]]:
    """Our tensors (names as in `sources` and `shapes`), and which of theirs are not needed: those whose name `unused` matches.

    Raises CheckpointError as `matched` does, and for NaN.
    """
    names, ignored = matched(state, sources, shapes, unused, where)
    weights = {own: sources[own].take(state[name]) for own, name in names.items()}
    bad = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if bad:
        raise CheckpointError(f"the checkpoint {where} holds NaN or infinity in {listed(bad)}; take another")
    return weights, ignored


def matched(
    state: Mapping[str, Tensor],
    sources: Mapping[str, Source],
    shapes: Mapping[str, Size],
    unused: re.Pattern[str],
    where: str | Path,
) -> tuple[dict[str, str], list[str]]:
    """Our names, each with theirs, and which of theirs are not needed. Reads names and shapes alone.

    Raises CheckpointError, in one sentence that names every tensor that is missing, unknown or of another shape.
    """
    names: dict[str, str] = {}
    missing, wrong = set(), {}
    for own, source in sources.items():
        name = next((name for name in source.names if name in state), None)
        if name is None:
            missing.add(source.names[0])
            continue
        names[own] = name
        expected = source.shape(shapes[own])
        if list(state[name].shape) != expected:
            wrong[name] = f"{name} has shape {list(state[name].shape)} instead of {expected}"
    used = set(names.values())
    rest = [name for name in state if name not in used]
    unknown = [name for name in rest if not unused.fullmatch(name)]
    parts = [
        *([f"lacks {listed(missing)}"] if missing else []),
        *([f"has the unknown {listed(unknown)}"] if unknown else []),
        *wrong.values(),
    ]
    if parts:
        raise CheckpointError(
            f"the checkpoint {where} does not fit the encoder: it {'; '.join(parts)}; use the kind, folder and settings that it "
            "was trained with"
        )
    return names, rest
