"""Contrastive training of an encoder: puts encoder, data and loop together for one `ContrastiveConfig`."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gemkr.config.files import to_mapping
from gemkr.config.ranges import require_ranges
from gemkr.data.documents import DocumentStore
from gemkr.data.mbeir import InstructionProvider
from gemkr.data.queries import read_queries
from gemkr.data.run_folders import TRAIN
from gemkr.data.trec import read_run
from gemkr.errors import ConfigError, DataError
from gemkr.models.encoders import ALL_ENCODERS
from gemkr.models.token_embedder import TokenEmbedder
from gemkr.models.weights import trained_parameters
from gemkr.training.checkpoints.encoder import KIND, bases_of, put_in_encoder
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.contrastive.config import DRAWS, EACH, POSITIVES, RANDOM, ContrastiveConfig
from gemkr.training.contrastive.data import Collate, PairDataset, make_pairs
from gemkr.training.contrastive.draws import Draws, Pair, filled
from gemkr.training.contrastive.model import ContrastiveModel
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.order import SubBatches
from gemkr.training.loop.resume import ResumeFrom, ResumePoint, find_resume, lock_output
from gemkr.training.loop.trainer import Outcome, train
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What an encoder is built from."""

    pictures: PictureFolder | None
    regions: RegionStore | None = None

    def put_in(self, network: nn.Module, checkpoint: str | Path) -> None:
        """Load what an earlier training taught."""
        put_in_encoder(network, checkpoint)


def train_encoder(config: ContrastiveConfig, *, resume: ResumeFrom = None) -> Outcome:
    """Train the encoder of a configuration; leaves step-*/ and final/ in its output folder.

    With `encoder.checkpoint` training starts from there (a new run, not a resumed one). Raises as `train` does, and whatever encoder,
    data and pictures have to complain about, before the first step.
    """
    with lock_output(config.output):
        return _train(config, find_resume(config.output, resume, TRAIN))


def _train(config: ContrastiveConfig, point: ResumePoint | None) -> Outcome:
    for part in (config.loss, config.loss.queue, config.negatives):
        if part is not None:
            require_ranges(part)
    _require_known("positives", config.positives, POSITIVES)
    if config.negatives is not None:
        _require_known("negatives.draw", config.negatives.draw, DRAWS)
    if config.loss.learnable and config.loss.temperature < config.loss.least:
        raise ConfigError(
            f"loss.temperature is {config.loss.temperature}, and loss.least, down to which it is learned, {config.loss.least}; raise the "
            "first, or lower the second"
        )
    torch.manual_seed(config.seed)
    material = Material(
        None if config.images is None else PictureFolder(config.images),
        None if config.regions is None else RegionStore.open(config.regions),
    )
    encoder = config.encoder.build(material)
    if not (hasattr(encoder, "network") and hasattr(encoder, "reader")):
        raise ConfigError(
            f"an encoder of the kind {config.encoder.kind!r} has no network and reader, so that it cannot be trained here; use one of "
            f"{', '.join(ALL_ENCODERS.known)}"
        )
    if config.loss.queue is not None and isinstance(encoder, TokenEmbedder):
        raise ConfigError(
            f"loss.queue keeps one vector a document and {config.encoder.kind!r} makes one a token; leave loss.queue out"
        )
    for parameter in trained_parameters(encoder.network).values():
        parameter.data = parameter.data.float()
    documents = DocumentStore.open(config.corpus)
    run = None if config.negatives is None else read_run(config.negatives.run)
    queries = list(read_queries(config.queries))
    pairs = make_pairs(queries, documents, run, config.negatives, str(config.queries), config.positives)
    if getattr(encoder, "reads_pictures", False):
        _require_pictures(pairs, documents, material.pictures)
    pairs = filled(pairs, config.at_least, config.seed)
    draws = _draws(config)
    if draws is not None:
        draws.require(pairs, documents)
    dataset = PairDataset(pairs, documents, draws)
    model = ContrastiveModel(encoder.network, config.loss).train()
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("%d pairs of %d queries; %.2f M parameters learn", len(pairs), len(queries), learned / 1e6)
    origin = Origin(
        KIND,
        vocabulary_hash(encoder.reader.tokenizer),
        _data_hash(config),
        to_mapping(config),
        bases_of(encoder.network),
    )
    data = TrainingData(
        dataset,
        Collate(encoder.reader, config.chunk_size),
        dataset.lengths() if config.by_length else np.zeros(len(dataset), np.int64),
        dataset.groups(),
        sub_batches=None if config.sub_batch is None else SubBatches(config.sub_batch, dataset.data_sets()),
        by_epoch=draws is not None,
    )
    checkpoint = None if point is None else point.read(origin)
    tuned = getattr(config.encoder.config, "checkpoint", None) is not None
    return train(model, data, config, origin, precision=config.precision, resume=checkpoint, tuned=tuned)


def _require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {value!r}; use {' or '.join(known)}")


def _draws(config: ContrastiveConfig) -> Draws | None:
    """What is drawn anew in every epoch; None for nothing."""
    count = None
    if config.negatives is not None and config.negatives.draw == RANDOM:
        count = config.negatives.per_query
    table = None if config.instructions is None else InstructionProvider(config.instructions)
    if config.positives == EACH and count is None and table is None:
        return None
    return Draws(config.seed, count, table, str(config.queries))


def _require_pictures(pairs: list[Pair], documents: DocumentStore, pictures: PictureFolder | None) -> None:
    """Every picture that the encoder reads must be there: found out now, not in the third hour."""
    wanted = [(f"the query {pair.query.query_id!r}", pair.query.image) for pair in pairs]
    numbers = dict.fromkeys(number for p in pairs for number in (p.target, *p.others, *p.negatives))
    wanted += [(f"the document {documents.doc_ids[i]!r}", documents[i].image) for i in numbers]
    for name, image in wanted:
        if image is None:
            continue
        if pictures is None:
            raise DataError(f"{name} has the picture {image!r} and the configuration no images; set images")
        if image not in pictures:
            raise DataError(f"the picture {image!r} of {name[4:]} is not in {pictures.folder}; add it")


def vocabulary_hash(tokenizer: Any) -> str:
    """SHA-256 of a tokenizer's tokens and their numbers."""
    return hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest()


def _data_hash(config: ContrastiveConfig) -> str:
    """Of the query and corpus files, of the run with the hard negatives, and of the instructions."""
    files: list[str | Path] = [config.queries, config.corpus]
    if config.negatives is not None:
        files.append(config.negatives.run)
    if config.instructions is not None:
        files.append(config.instructions)
    return hash_files(files)
