"""What trainings of the network share that learn texts behind prompts: its start, its origin, the one loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from gemkr.config.files import to_mapping
from gemkr.models.gemkr.writer import Writer
from gemkr.models.writers.load import load_writer
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.checkpoints.trained import load_into
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.resume import ResumePoint
from gemkr.training.loop.trainer import Outcome, train

logger = logging.getLogger(__name__)


def start_network(config: Any, point: ResumePoint | None) -> Writer:
    """The network of `config.model`, new parts drawn with `config.seed`; a run that is not resumed starts from the parameters of
    `model.checkpoint`, where there is one."""
    torch.manual_seed(config.seed)
    model = load_writer(config.model)
    if config.model.checkpoint is not None and point is None:
        load_into(model, read_checkpoint(config.model.checkpoint))
    return model


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
