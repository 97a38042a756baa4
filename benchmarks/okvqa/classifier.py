"""The answer classifier: averaged bag-of-words networks that guess one of the training questions' answers.

A guesser of answers without any document: the strongest of the simple baselines. Training is seeded, single-threaded
and is reproducible to the bit on one machine; the weights are kept in a file that records what they were learned from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.okvqa.bags import BagVectors, QueryWords
from benchmarks.okvqa.config import ClassifierConfig
from benchmarks.okvqa.guessers import training_queries
from benchmarks.okvqa.learned_weights import (
    classes_of,
    learn_weights,
    origin_of,
    require_weights,
    targets_of,
)
from gemkr.training.loop.fit import fit
from gemkr.training.loop.schedule import WarmupLinear
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

FORMAT = 1
"""Of the weight file, and of how features and training are defined: weights of another format are learned again."""
EMBEDDING_SCALE = 0.02
OUTPUT_SCALE = 0.02
WARMUP_STEPS = 50
PARTS = ("embedding", "hidden_bias", "output", "bias")
"""The tensors of a network."""
LEARNED_FROM = "queries or settings"

logger = logging.getLogger(__name__)

Bag = tuple[np.ndarray, np.ndarray]
"""A query as (features int64[n], weights float32[n])."""


@dataclass(frozen=True)
class Network:
    """One hidden layer over a bag of features: softmax(output x tanh(sum of embeddings + hidden_bias) + bias)."""

    embedding: Tensor  # float32[features, hidden]
    hidden_bias: Tensor  # float32[hidden]
    output: Tensor  # float32[answers, hidden]
    bias: Tensor  # float32[answers]

    @classmethod
    def random(cls, features: int, answers: int, hidden: int, generator: torch.Generator) -> Network:
        """Small random weights: learned features must outweigh random ones."""
        return cls(
            torch.randn(features, hidden, generator=generator) * EMBEDDING_SCALE,
            torch.zeros(hidden),
            torch.randn(answers, hidden, generator=generator) * OUTPUT_SCALE,
            torch.zeros(answers),
        )

    def parameters(self) -> list[Tensor]:
        return [self.embedding, self.hidden_bias, self.output, self.bias]

    def logits(
        self, bags: Sequence[Bag], *, dropout: tuple[float, float] = (0.0, 0.0), generator=None
    ) -> Tensor:
        """float32[bags, answers]; `dropout` is the share of features and of hidden units left out in training."""
        features = torch.from_numpy(np.concatenate([features for features, _ in bags]))
        weights = torch.from_numpy(np.concatenate([weights for _, weights in bags]))
        ends = torch.tensor(np.cumsum([0, *(len(features) for features, _ in bags)]))
        hidden = F.embedding_bag(
            features,
            self.embedding,
            ends,
            mode="sum",
            per_sample_weights=_dropout(weights, dropout[0], generator),
            include_last_offset=True,
        )
        hidden = _dropout(torch.tanh(hidden + self.hidden_bias), dropout[1], generator)
        return hidden @ self.output.T + self.bias


class AnswerClassifier:
    """Guesses answers by the mean probability of several networks; about 2 ms a query for 4,000 answers.

    Classes are the answers that at least `least_answers` training queries give.
    """

    Config = ClassifierConfig

    @classmethod
    def from_config(cls, config: ClassifierConfig, sources: Sources) -> AnswerClassifier:
        """With the weights that `fit` left; ConfigError where there are none, DataError for those of other queries or settings."""
        queries = training_queries(config.train, sources)
        return sources.once(("classifier", config), lambda: cls.read(queries, config))

    @classmethod
    def read(cls, queries: Sequence[Query], config: ClassifierConfig) -> AnswerClassifier:
        """The classifier that was learned from these queries; raises as `from_config`."""
        answers, vectors, origin = _features(queries, config)
        held = require_weights(Path(config.weights), origin, LEARNED_FROM)
        networks = [
            Network(*(held[f"{number}.{name}"] for name in PARTS))
            for number in range(len(held) // len(PARTS))
        ]
        return cls(networks, answers, vectors)

    @classmethod
    def fit(cls, config: ClassifierConfig, sources: Sources) -> str:
        """Learn from the training queries into the file `weights`, if it is not there; under two minutes of one thread for
        9,000 queries."""
        return cls.learn(training_queries(config.train, sources), config)

    @staticmethod
    def learn(queries: Sequence[Query], config: ClassifierConfig) -> str:
        """`fit` from given queries."""
        answers, vectors, origin = _features(queries, config)
        return learn_weights(
            Path(config.weights), origin, lambda: _learn(queries, answers, vectors, config), LEARNED_FROM
        )

    @staticmethod
    def input_files(config: ClassifierConfig) -> dict[str, str | None]:
        """The training queries; the weight file records what it was learned from."""
        return {"train": config.train}

    def __init__(self, networks: Sequence[Network], answers: Sequence[str], vectors: BagVectors) -> None:
        self.networks, self.answers, self.vectors = networks, answers, vectors

    def guess(self, query: Query) -> list[tuple[str, float]]:
        """All (answer, probability), best first; ties in the order of `answers`. Frequencies for an empty bag."""
        bag = [self.vectors.vector(query)]
        with torch.no_grad(), single_thread():
            each = [torch.softmax(network.logits(bag)[0], dim=-1) for network in self.networks]
            mean = torch.stack(each).mean(dim=0).numpy()
        order = np.argsort(-mean, kind="stable")
        return [(self.answers[number], float(mean[number])) for number in order.tolist()]


def _features(queries: Sequence[Query], settings: ClassifierConfig) -> tuple[list[str], BagVectors, str]:
    """The classes, the features, and the origin of the weights over them; DataError where there is no class."""
    answers = classes_of(queries, settings.least_answers)
    vectors = BagVectors(queries, QueryWords(shared=True), least=settings.least_words)
    decisive = asdict(settings)
    del decisive["train"], decisive["weights"]
    return answers, vectors, origin_of(queries, FORMAT, decisive)


def _learn(
    queries: Sequence[Query], answers: Sequence[str], vectors: BagVectors, settings: ClassifierConfig
) -> dict[str, Tensor]:
    numbers = {answer: number for number, answer in enumerate(answers)}
    examples = [(vectors.vector(query), targets_of(query, numbers)) for query in queries]
    examples = [(bag, targets) for bag, targets in examples if targets and len(bag[0])]
    logger.info("learning %d answers from %d queries", len(answers), len(examples))
    networks = [
        train_network(examples, len(vectors), len(answers), settings, settings.seed + number)
        for number in range(settings.networks)
    ]
    return {
        f"{number}.{name}": getattr(network, name)
        for number, network in enumerate(networks)
        for name in PARTS
    }


def train_network(
    examples: Sequence[tuple[Bag, list[int]]],
    features: int,
    answers: int,
    settings: ClassifierConfig,
    seed: int,
) -> Network:
    """One network by AdamW on cross entropy against the uniform distribution over a query's answers.

    Everything random comes from one generator with this seed, and one thread adds up in one order. Learning rate:
    warm-up, then linear to 0.
    """
    generator = torch.Generator().manual_seed(seed)
    network = Network.random(features, answers, settings.hidden, generator)
    parameters = [parameter.requires_grad_() for parameter in network.parameters()]
    dropout = settings.word_dropout, settings.dropout

    def batches() -> Iterator[list[tuple[Bag, list[int]]]]:
        for _ in range(settings.epochs):
            order = torch.randperm(len(examples), generator=generator).tolist()
            for start in range(0, len(order), settings.batch_size):
                yield [examples[number] for number in order[start : start + settings.batch_size]]

    def loss(batch: list[tuple[Bag, list[int]]]) -> Tensor:
        logits = network.logits([bag for bag, _ in batch], dropout=dropout, generator=generator)
        return _cross_entropy(logits, [targets for _, targets in batch])

    steps = settings.epochs * math.ceil(len(examples) / settings.batch_size)
    with single_thread():
        fit(
            [{"params": parameters, "peak_lr": settings.lr}],
            batches(),
            loss,
            WarmupLinear(WARMUP_STEPS, steps),
            weight_decay=settings.weight_decay,
            title=f"classifier, seed {seed}",
        )
    return Network(*(parameter.detach() for parameter in parameters))


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for torch inside the block: small sums gain nothing from more, and their order stays the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cross_entropy(logits: Tensor, targets: Sequence[list[int]]) -> Tensor:
    rows = torch.tensor([row for row, answers in enumerate(targets) for _ in answers])
    columns = torch.tensor([answer for answers in targets for answer in answers])
    shares = torch.tensor([1 / len(answers) for answers in targets for _ in answers])
    return -(F.log_softmax(logits, dim=-1)[rows, columns] * shares).sum() / len(targets)


def _dropout(values: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    """Dropout with the given random generator: the same step in any process."""
    if not share:
        return values
    return values * (torch.rand(values.shape, generator=generator) >= share) / (1 - share)
