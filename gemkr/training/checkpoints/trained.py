"""A trained model for use: base models and a checkpoint, which must belong together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from gemkr.data.run_folders import KINDS, PRETRAIN
from gemkr.errors import CheckpointError
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.writer import Writer
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.weights import load_weights
from gemkr.models.writers.load import load_writer
from gemkr.text.tokenizer import fitted
from gemkr.training.checkpoints.checkpoint import Checkpoint, read_checkpoint
from gemkr.training.checkpoints.manifest import CONFIG, read_manifest
from gemkr.training.checkpoints.origin import require_bases, require_tokenizer

SHAPING = ("tower", "prefix", "visual_tokens", "text_encoder", "prompt", "lora")
VLM_SHAPING = ("kind", "chat", "crops", "min_pixels", "max_pixels")
"""Model settings that must be those of the training run; others (paths, precision) may change."""
PATHS = ("config", "weights", "folder", "template", "dropout")
"""Settings inside them that may differ: where files lie, and what decoding has no use for."""


def load_model(config: ModelConfig | VlmConfig) -> Writer:
    """Load base models and the checkpoint's trained parameters, ready to decode.

    Raises CheckpointError when the checkpoint was trained with another tokenizer, on other frozen weights, or with other
    settings of what the model is and is shown (tower, prefix, visual tokens, text encoder, prompt, LoRA).
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if config.checkpoint is None:
        return load_writer(config, device=device)
    checkpoint = read_checkpoint(config.checkpoint)
    if KINDS.get(checkpoint.origin.kind) == PRETRAIN:
        raise CheckpointError(
            f"the checkpoint {config.checkpoint} is of gemkr pretrain, whose result is an LLM folder; set model.llm to "
            f"{checkpoint.path.parent / 'model'} and model.checkpoint to one of gemkr train"
        )
    _require_same_shape(config, checkpoint.origin.config.get("model") or {}, config.checkpoint)
    model = load_writer(config, device=device)
    load_into(model, checkpoint)
    return model


def require_kind(config: ModelConfig | VlmConfig, kind: str, command: str) -> None:
    """CheckpointError for a checkpoint of another kind than `command` writes; nothing is loaded."""
    if config.checkpoint is None:
        return
    found = read_manifest(Path(config.checkpoint))["kind"]
    if found != kind and KINDS.get(found) != PRETRAIN:  # which loading refuses in its own words
        raise CheckpointError(
            f"the checkpoint {config.checkpoint} is of the kind {found!r}, and one of the kind {kind!r} is needed; give one that "
            f"`{command}` wrote"
        )


def load_into(model: Writer, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's trained parameters; CheckpointError when it is of another tokenizer, other frozen weights or
    another size."""
    tokenizer = fitted(model.tokenizer, checkpoint.origin.tokenizer)  # older ones did not normalize texts
    require_tokenizer(checkpoint.origin, tokenizer.fingerprint(), checkpoint.path)
    require_bases(checkpoint.origin, model.bases(), checkpoint.path)
    load_weights(
        model.trainable_parameters(),
        checkpoint.weights,
        f"the checkpoint {checkpoint.path}",
        remedy=f"it belongs to {checkpoint.origin.owner}, so use that and the other model settings in its {CONFIG}",
    )


def _require_same_shape(config: ModelConfig | VlmConfig, trained: dict, where: str) -> None:
    ours, theirs = _shape(asdict(config)), _shape(trained)
    for name, value in theirs.items():
        if ours.get(name) != value:
            raise CheckpointError(
                f"the checkpoint {where} was trained with model.{name} = {value}, this configuration has "
                f"{ours.get(name)}; use the settings it was trained with"
            )


def _shape(model: dict) -> dict:
    """The settings that training fixed, by dotted name; a section that is null counts as one value."""
    shape = {}
    for section in (*SHAPING, *VLM_SHAPING):
        values = model.get(section)
        if isinstance(values, dict):
            shape |= {f"{section}.{name}": value for name, value in values.items() if name not in PATHS}
        elif section in model:
            shape[section] = values
    return shape
