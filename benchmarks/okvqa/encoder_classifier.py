"""The answer classifier over a fine-tuned text encoder: a guesser that brings knowledge from outside its training queries.

An answer's weights start as the encoder's own reading of the answer, so that at the start the nearest answers in meaning
are guessed, and rare ones need few examples. Knows no documents.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.okvqa.config import EncoderClassifierConfig
from benchmarks.okvqa.guessers import training_queries
from benchmarks.okvqa.learned_weights import (
    classes_of,
    learn_weights,
    origin_of,
    read_learned,
    targets_of,
)
from gemkr.errors import ConfigError
from gemkr.models.hf.config import PromptConfig
from gemkr.models.hf.text_encoder import TextEncoder, TextReader, load_text_encoder
from gemkr.models.weights import trained_parameters
from gemkr.training.loop.fit import fit
from gemkr.training.loop.schedule import WarmupLinear
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

FORMAT = 1
"""Of the weight file, and of how training is defined: weights of another format are learned again."""
LEARNED_FROM = "queries or settings, and a model may read through it"
WARMUP_STEPS = 100
CHUNK = 16
"""Batches whose queries are sorted by length together, so that little is padding."""

logger = logging.getLogger(__name__)

T = TypeVar("T")
"""What a text is to be learned with."""


class EncoderClassifier(nn.Module):
    """p(answer | query) = softmax(W s + b), s the mean of the encoder's states scaled to the length `scale`.

    The output and the encoder except its word embeddings are trained.
    """

    Config = EncoderClassifierConfig

    @classmethod
    def from_config(cls, config: EncoderClassifierConfig, sources: Sources) -> EncoderClassifier:
        """With the weights that `fit` left; ConfigError where there are none, DataError for those of other queries, settings
        or encoders, ModelError as `load_text_encoder`."""
        queries = training_queries(config.train, sources)
        return sources.once(("encoder classifier", config), lambda: cls.read(queries, config))

    @staticmethod
    def read(queries: Sequence[Query], config: EncoderClassifierConfig) -> EncoderClassifier:
        """The classifier that was learned from these queries; raises as `from_config`."""
        with torch.random.fork_rng(devices=[]):
            model, origin = _untrained(queries, config)
        read_learned(trained_parameters(model), Path(config.weights), origin, LEARNED_FROM)
        return model.eval()

    @classmethod
    def fit(cls, config: EncoderClassifierConfig, sources: Sources) -> str:
        """Learn from the training queries into the file `weights`, if it is not there; nine minutes of two cores for 9,000
        queries and an encoder of 22 M parameters."""
        return cls.learn(training_queries(config.train, sources), config)

    @staticmethod
    def learn(queries: Sequence[Query], config: EncoderClassifierConfig) -> str:
        """`fit` from given queries."""
        with torch.random.fork_rng(devices=[]):
            model, origin = _untrained(queries, config)
            learn = partial(_learn, model, queries)
            return learn_weights(Path(config.weights), origin, learn, LEARNED_FROM)

    @staticmethod
    def input_files(config: EncoderClassifierConfig) -> dict[str, str | None]:
        """Training queries and encoder; the weights know themselves what they were learned from."""
        return {"train": config.train, "encoder.folder": config.encoder.folder}

    def __init__(
        self,
        encoder: TextEncoder,
        reader: TextReader,
        answers: Sequence[str],
        config: EncoderClassifierConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.reader, self.answers, self.config = encoder, reader, answers, config
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(encoder.width, len(answers))
        with torch.no_grad():
            self.output.bias.zero_()

    def forward(self, texts: Sequence[Tensor]) -> Tensor:
        """Logits float32[queries, answers]."""
        return self.output(self.dropout(self.config.scale * self.encoder.meaning(texts)))

    def start_from_answers(self, batch: int = 256) -> None:
        """Give every answer the meaning that the encoder finds in it."""
        texts = [self.text(Query("", answer)) for answer in self.answers]
        with torch.no_grad():
            found = [self.encoder.meaning(texts[i : i + batch]) for i in range(0, len(texts), batch)]
            self.output.weight.copy_(torch.cat(found))

    def text(self, query: Query) -> Tensor:
        """int64[E]: what the encoder reads of a query."""
        return torch.from_numpy(self.reader(query))

    def guess(self, query: Query) -> list[tuple[str, float]]:
        """All (answer, probability), best first; ties in the order of `answers`. One pass of the encoder."""
        with torch.inference_mode():
            found = self([self.text(query)])[0].softmax(dim=-1).numpy()
        order = np.argsort(-found, kind="stable")
        return [(self.answers[number], float(found[number])) for number in order.tolist()]


def _untrained(queries: Sequence[Query], config: EncoderClassifierConfig) -> tuple[EncoderClassifier, str]:
    """The classifier before training, and the origin of what is learned; under a generator that starts from the seed."""
    if not config.encoder.train:
        raise ConfigError(
            "encoder.train is false, and a classifier's encoder is tuned with it; leave it true"
        )
    reader = TextReader(config.encoder, PromptConfig(caption=True, detections=True))
    answers = classes_of(queries, config.least_answers)
    torch.manual_seed(config.seed)
    model = EncoderClassifier(load_text_encoder(config.encoder), reader, answers, config)
    settings = asdict(config) | {"encoder": [model.encoder.fingerprint(), config.encoder.max_tokens]}
    del settings["weights"], settings["train"]
    return model, origin_of(queries, "encoder", FORMAT, settings)


def _learn(model: EncoderClassifier, queries: Sequence[Query]) -> dict[str, nn.Parameter]:
    model.eval().start_from_answers()
    _train(model, queries)
    return trained_parameters(model)


def _train(model: EncoderClassifier, queries: Sequence[Query]) -> None:
    """AdamW on cross entropy against the uniform distribution over a query's answers; rates rise, then fall to 0."""
    config, numbers = model.config, {answer: number for number, answer in enumerate(model.answers)}
    samples = [(model.text(query), targets_of(query, numbers)) for query in queries]
    samples = [sample for sample in samples if sample[1]]
    logger.info("learning %d answers from %d queries", len(model.answers), len(samples))
    head = list(model.output.parameters())
    body = [p for p in model.encoder.parameters() if p.requires_grad]
    groups = [{"params": body, "peak_lr": config.lr}, {"params": head, "peak_lr": config.head_lr}]

    def loss(batch: list[tuple[Tensor, list[int]]]) -> Tensor:
        logs = model([text for text, _ in batch]).log_softmax(dim=-1)
        losses = [-row[targets].mean() for row, (_, targets) in zip(logs, batch, strict=True)]
        return torch.stack(losses).mean()

    model.train()
    fit(
        groups,
        batches_by_length(samples, config.batch_size, config.epochs, random.Random(config.seed)),
        loss,
        WarmupLinear(WARMUP_STEPS, config.epochs * math.ceil(len(samples) / config.batch_size)),
        weight_decay=config.weight_decay,
        clipped=[*body, *head],
        title="encoder classifier",
    )


def batches_by_length(
    samples: Sequence[tuple[Tensor, T]], size: int, epochs: int, rng: random.Random
) -> Iterator[list[tuple[Tensor, T]]]:
    """All samples once an epoch, in a random order of batches of about equal lengths."""
    for _ in range(epochs):
        order = rng.sample(samples, len(samples))
        batches = []
        for start in range(0, len(order), size * CHUNK):
            chunk = sorted(order[start : start + size * CHUNK], key=lambda sample: len(sample[0]))
            batches += [chunk[i : i + size] for i in range(0, len(chunk), size)]
        rng.shuffle(batches)
        yield from batches
