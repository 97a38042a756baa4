"""The checkpoint that the GeMKR authors publish (MiniGPT-4's format), with the names of our models.

Its state dict holds what their training changes: LoRA on the LLM's queries and values, one table with the learned prefixes of
all blocks, one gate per head and block, and the projection into the LLM. Knows names and shapes, not what a model computes.
Theirs (shapes of the paper), and ours:

    llama_model.base_model.model.model.layers.N.self_attn.{q,v}_proj.lora_{A,B}.weight  [8, 4096], [4096, 8]
        llm.model.model.layers.N...lora_{A,B}.default.weight (newer peft: theirs is lora_A.default.weight too)
    visual_encoder.adapter_query.weight  [20 x 10, 1408], first prefixed block first
        ...blocks.N.attn.prefix  [10, 1408] each
    visual_encoder.blocks.N.attn.gate, N = 19 .. 38  [1, 16, 1, 1]
        ...blocks.N.attn.gate  [16]
    llama_proj.{weight,bias}  [4096, 1408], [4096]
        projector.linear
    ln_vision.{weight,bias}, mostly absent  [1408]
        projector.norm
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gemkr.errors import CheckpointError
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.outline import Outline
from gemkr.training.checkpoints.naming import listed

LORA_SCALE = 2
"""alpha / r of the published training run (16 / 8); LoRA's tensors do not show it."""
PREFIX_ROWS_SHOWN = 2
PREFIXES = "visual_encoder.adapter_query.weight"
_LORA = re.compile(r"llama_model\.base_model\.model\.(.+)\.(lora_[AB])(?:\.default)?\.weight")
_GATE = re.compile(r"visual_encoder\.blocks\.(\d+)\.attn\.gate")
_OWN_PREFIX = re.compile(r"(.+\.(\d+)\.attn)\.prefix")
_ROTARY = re.compile(r"llama_model\..+\.rotary_emb\.inv_freq")
_PLAIN = {
    "llama_proj.weight": "projector.linear.weight",
    "llama_proj.bias": "projector.linear.bias",
    "ln_vision.weight": "projector.norm.weight",
    "ln_vision.bias": "projector.norm.bias",
}
_UNTRAINED = {"ln_vision.weight": 1.0, "ln_vision.bias": 0.0}
"""Frozen in their training at these first values, and therefore not in the files that it writes."""
_BOX = "projector.box.weight"


@dataclass
class Translation:
    """Our trained parameters, float32 on the CPU, and what the file leaves open.

    `ignored`: names of the file that our model computes itself or never uses; `assumed`: theirs that the file lacks,
    with the value they have.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)


def translate(state: Mapping[str, Tensor], config: ModelConfig, where: str | Path) -> Translation:
    """Map the published names to ours, strictly.

    Raises CheckpointError, in one sentence that names every key that is missing, unknown or of another shape; and for
    settings of the model that the published design does not have.
    """
    _require_published_design(config)
    outline = Outline(config)
    shapes = outline.shapes()
    _require_same_depth(state, len(outline.tower.tower.blocks), where)
    theirs = _their_names(shapes)
    result, wrong = Translation(), []
    unknown = {name for name in state if not _ROTARY.fullmatch(name) and not _GATE.fullmatch(name)}
    result.ignored = [name for name in state if name not in unknown]
    missing = []
    for own, names in theirs.items():
        name = next((n for n in names if n in state), None)
        if name is not None:
            unknown.discard(name)
            if name in result.ignored:
                result.ignored.remove(name)
            value = _reshaped(state[name], own, shapes)
            if value is None:
                wrong.append(
                    f"{name} has shape {list(state[name].shape)} instead of {_expected(own, shapes)}"
                )
            else:
                result.weights[own] = value
        elif names[0] in _UNTRAINED:
            result.assumed.append(f"{names[0]} = {_UNTRAINED[names[0]]:g}")
            result.weights[own] = torch.full(shapes[own], _UNTRAINED[names[0]])
        else:
            missing.append(names[0])
    _take_prefixes(state, shapes, result, unknown, missing, wrong)
    result.weights[_BOX] = torch.zeros(shapes[_BOX])
    parts = [
        *([f"lacks {listed(missing)}"] if missing else []),
        *([f"has the unknown {listed(unknown)}"] if unknown else []),
        *wrong,
    ]
    if parts:
        raise CheckpointError(
            f"the checkpoint {where} does not fit the configuration: it {'; '.join(parts)}; use the settings it was "
            "trained with (LLM, tower, prefix, LoRA)"
        )
    bad = [name for name, value in result.weights.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise CheckpointError(f"the checkpoint {where} holds NaN or infinity in {listed(bad)}; take another")
    return result


def _require_published_design(config: ModelConfig) -> None:
    """What the published model has and the file does not record."""
    lora, shown = config.lora, config.visual_tokens
    checks = [
        ("model.tower", config.tower is not None, "a tower (EVA-CLIP-g)", None),
        ("model.lora", lora is not None, "LoRA, r 8 and alpha 16", None),
        ("model.train_llm", not config.train_llm, "false", True),
        (
            "model.lora.alpha",
            lora is None or lora.alpha == LORA_SCALE * lora.r,
            f"{LORA_SCALE} times r",
            lora and lora.alpha,
        ),
        ("model.lora.dora", lora is None or not lora.dora, "false", True),
        ("model.visual_tokens.cls", shown.cls, "true", shown.cls),
        (
            "model.visual_tokens.prefix_rows",
            shown.prefix_rows == PREFIX_ROWS_SHOWN,
            str(PREFIX_ROWS_SHOWN),
            shown.prefix_rows,
        ),
        (
            "model.visual_tokens.regions",
            not shown.regions,
            "false (their checkpoints hold nothing for it)",
            True,
        ),
    ]
    for name, fits, needed, given in checks:
        if not fits:
            raise CheckpointError(
                f"the published model has {name}: {needed}, the configuration has {given}; change it"
            )


def _require_same_depth(state: Mapping[str, Tensor], depth: int, where: str | Path) -> None:
    """Prefixes stand in the last blocks, and their tower ends a block earlier than EVA-CLIP-g does."""
    gated = [int(found[1]) for name in state if (found := _GATE.fullmatch(name))]
    if gated and max(gated) + 1 != depth:
        raise CheckpointError(
            f"the tower of the checkpoint {where} ends after {max(gated) + 1} blocks (its last gate stands in block "
            f"{max(gated)}), the configuration's after {depth}; set model.tower.depth: {max(gated) + 1}"
        )


def _their_names(shapes: Mapping[str, torch.Size]) -> dict[str, tuple[str, ...]]:
    """Our names, each with what theirs may be called; prefixes and the box embedding are not among them."""
    names: dict[str, tuple[str, ...]] = {own: (theirs,) for theirs, own in _PLAIN.items()}
    for own in shapes:
        lora = re.fullmatch(r"llm\.model\.(.+)\.(lora_[AB])\.default\.weight", own)
        if lora:
            stem = f"llama_model.base_model.model.{lora[1]}.{lora[2]}"
            names[own] = (f"{stem}.weight", f"{stem}.default.weight")
        prefix = _OWN_PREFIX.fullmatch(own)
        if prefix:
            names[f"{prefix[1]}.gate"] = (f"visual_encoder.blocks.{prefix[2]}.attn.gate",)
    return names


def _reshaped(value: Tensor, own: str, shapes: Mapping[str, torch.Size]) -> Tensor | None:
    """In our shape, float32; a gate is [1, heads, 1, 1] with them. None when it does not fit."""
    if own.endswith(".gate") and value.shape == (1, *shapes[own], 1, 1):
        value = value.flatten()
    return value.float().clone() if value.shape == shapes[own] else None


def _expected(own: str, shapes: Mapping[str, torch.Size]) -> list[int]:
    return [1, *shapes[own], 1, 1] if own.endswith(".gate") else list(shapes[own])


def _take_prefixes(
    state: Mapping[str, Tensor],
    shapes: Mapping[str, torch.Size],
    result: Translation,
    unknown: set[str],
    missing: list[str],
    wrong: list[str],
) -> None:
    """Their table holds the rows of all blocks, the first prefixed block's first."""
    own = sorted((name for name in shapes if _OWN_PREFIX.fullmatch(name)), key=_block)
    unknown.discard(PREFIXES)
    if PREFIXES not in state:
        missing.append(PREFIXES)
        return
    rows, width = shapes[own[0]]
    table = state[PREFIXES]
    if table.shape != (len(own) * rows, width):
        wrong.append(
            f"{PREFIXES} has shape {list(table.shape)} instead of {[len(own) * rows, width]} ({len(own)} blocks of "
            f"{rows} rows)"
        )
        return
    result.weights |= {name: part.float().clone() for name, part in zip(own, table.split(rows), strict=True)}


def _block(name: str) -> int:
    return int(_OWN_PREFIX.fullmatch(name)[2])
