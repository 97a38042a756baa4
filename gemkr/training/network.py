"""What trainings of the network share that learn texts behind prompts: its start, its origin, the one loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gemkr.config.files import to_mapping
from gemkr.models.gemkr.writer import Writer
from gemkr.models.hf.config import LoraConfig
from gemkr.models.weights import load_weights
from gemkr.models.writers.load import load_writer
from gemkr.training.checkpoints.checkpoint import Checkpoint, read_checkpoint
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.checkpoints.trained import load_into
from gemkr.training.contrastive.merging import merge_adapters
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumePoint
from gemkr.training.loop.trainer import Outcome, train

logger = logging.getLogger(__name__)


def start_network(config: Any, point: ResumePoint | None) -> Writer:
    """The network of `config.model`, new parts drawn with `config.seed`; a run that is not resumed starts from the parameters of
    `model.checkpoint`, where there is one. An LLM that is trained whole starts from adapters merged into it, where the checkpoint
    has some."""
    torch.manual_seed(config.seed)
    model = load_writer(config.model)
    if config.model.checkpoint is not None and point is None:
        checkpoint = read_checkpoint(config.model.checkpoint)
        lora = (checkpoint.origin.config.get("model") or {}).get("lora")
        if lora is not None and getattr(config.model, "train_llm", False):
            _load_merged(model, config.model, LoraConfig(**lora), checkpoint)
        else:
            load_into(model, checkpoint)
    return model


def _load_merged(model: Writer, config: Any, lora: LoraConfig, checkpoint: Checkpoint) -> None:
    """Give a model that is trained whole the weights of the same one with adapters, once these are merged into its LLM."""
    adapted = load_writer(replace(config, lora=lora, train_llm=False, dropout=0.0))
    load_into(adapted, checkpoint)
    merge_adapters(adapted)
    weights = dict(adapted.named_parameters())
    targets = model.trainable_parameters()
    load_weights(targets, {name: weights[name] for name in targets}, f"the checkpoint {checkpoint.path}")


def train_network(
    config: Any,
    model: Writer,
    data: TrainingData,
    kind: str,
    files: Sequence[str | Path],
    point: ResumePoint | None,
    *,
    title: str = "train",
    notes: Mapping[str, Any] | None = None,
) -> Outcome:
    """Train, or go on after `point`; checkpoints are of `kind` and know what is in the `files`."""
    trained = model.trainable_parameters()
    logger.info(
        "%d samples; %.2f M of %.2f M parameters learn",
        len(data.dataset),
        sum(p.numel() for p in trained.values()) / 1e6,
        sum(p.numel() for p in model.parameters()) / 1e6,
    )
    origin = Origin(kind, model.tokenizer.fingerprint(), hash_files(files), to_mapping(config), model.bases())
    return train(
        model,
        data,
        config,
        origin,
        precision=config.model.precision,
        resume=None if point is None else point.read(origin),
        title=title,
        tuned=config.model.checkpoint is not None,
        notes=notes,
    )
