"""How the learned second scorer learns: passages that hold an answer of a training query are to score above all others.

Every step ranks the whole corpus: products with a sparse matrix and with the passages' vectors. Weights are kept in a file that knows their origin.
"""

from __future__ import annotations

import logging
import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.okvqa.config import LearnedScorerConfig
from benchmarks.okvqa.encoder_classifier import batches_by_length
from benchmarks.okvqa.impacts import TermImpacts
from benchmarks.okvqa.learned_scorer import LearnedScorer
from benchmarks.okvqa.learned_weights import learn_weights, origin_of, read_learned
from benchmarks.okvqa.passage_vectors import passage_vectors
from benchmarks.okvqa.phrase_documents import PhraseDocuments
from gemkr.data.documents import DocumentStore
from gemkr.errors import ConfigError, DataError
from gemkr.models.hf.config import PromptConfig
from gemkr.models.hf.text_encoder import TextReader, load_text_encoder
from gemkr.models.precision import PRECISIONS, autocast
from gemkr.models.weights import trained_parameters
from gemkr.scorers.bm25 import BM25
from gemkr.training.loop.fit import fit
from gemkr.training.loop.schedule import WarmupLinear
from gemkr.types import Query

FORMAT = 2
"""Of the weight file, and of how training is defined: weights of another format are learned again."""
LEARNED_FROM = "queries, settings, documents or another encoder"
WARMUP_STEPS = 100
SCALAR_LR_FACTOR = 10.0
"""Learning rate of the scalars (thresholds, shares, nearness), as a multiple of the terms' weights'."""

logger = logging.getLogger(__name__)


def read(
    queries: Sequence[Query], documents: DocumentStore, bm25: BM25, config: LearnedScorerConfig
) -> LearnedScorer:
    """The scorer that `learn` left for these queries, documents, settings and encoder.

    Raises ConfigError, naming the command that makes them, where weights or passage vectors are not there; DataError for those
    of other queries, settings, documents or encoders; ModelError as `load_text_encoder`.
    """
    with torch.random.fork_rng(devices=[]):
        model, origin = _untrained(queries, documents, bm25, config)
    read_learned(trained_parameters(model), Path(config.weights), origin, LEARNED_FROM)
    return model.eval()


def learn(queries: Sequence[Query], documents: DocumentStore, bm25: BM25, config: LearnedScorerConfig) -> str:
    """Learn from queries with answers into the file `weights`, if it is not there. Says what was done.

    Raises DataError when no document holds an answer, or a file was made from something else; ConfigError for a frozen
    encoder, an unknown precision, or passage vectors that are not there, ModelError as `load_text_encoder`. Cost: six minutes of
    two cores for 9,000 queries, 100,000 passages and an encoder of 22 M parameters in bfloat16.
    """
    with torch.random.fork_rng(devices=[]):
        model, origin = _untrained(queries, documents, bm25, config)
        training = partial(_learn, model, queries, documents)
        return learn_weights(Path(config.weights), origin, training, LEARNED_FROM)


def _untrained(
    queries: Sequence[Query], documents: DocumentStore, bm25: BM25, config: LearnedScorerConfig
) -> tuple[LearnedScorer, str]:
    """The scorer before training, and the origin of what is learned; under a generator that starts from the seed."""
    if not config.encoder.train:
        raise ConfigError("encoder.train is false, and the scorer's encoder is tuned with it; leave it true")
    if config.precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision is {config.precision!r}; known are fp32 and bf16")
    reader = TextReader(config.encoder, PromptConfig(caption=True, detections=True))
    impacts = TermImpacts(bm25, documents, least=config.least_documents, most=config.most_documents)
    torch.manual_seed(config.seed)
    encoder = load_text_encoder(config.encoder).eval()
    settings = asdict(config) | {"encoder": [encoder.fingerprint(), config.encoder.max_tokens]}
    vectors = None
    if config.vectors is not None:
        vectors, settings["vectors"] = passage_vectors(Path(config.vectors), documents, encoder.width)
    model = LearnedScorer(encoder, reader, impacts, vectors, config)
    del settings["weights"], settings["train"]
    return model, origin_of(queries, "learned scorer", FORMAT, settings, impacts.fingerprint(documents))


def _learn(model: LearnedScorer, queries: Sequence[Query], documents: DocumentStore) -> dict[str, Tensor]:
    model.eval().start_from_words()
    answers = dict.fromkeys(answer for query in queries for answer in query.answers)
    _train(model, queries, PhraseDocuments(documents, answers))
    return trained_parameters(model)


class _Corpus(torch.autograd.Function):
    """Term weights float32[B, T] to scores float32[B, N] of all documents, by the sparse matrix of impacts and its transpose."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, by_document: Tensor, by_term: Tensor) -> Tensor:
        ctx.by_term = by_term
        return (by_document @ weights.T.contiguous()).T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return (ctx.by_term @ gradient.T.contiguous()).T, None, None


def _train(model: LearnedScorer, queries: Sequence[Query], holders: PhraseDocuments) -> None:
    """AdamW on minus the logarithm of the softmax mass on the passages that hold an answer; rates rise, then fall to 0."""
    config, dtype = model.config, PRECISIONS[model.config.precision]
    samples = [(model.text(query), query) for query in queries if len(_relevant(query, holders))]
    if not samples:
        raise DataError(f"no document holds an answer of the {len(queries)} training queries; give others")
    logger.info("learning to weigh %d terms from %d queries", len(model.impacts), len(samples))
    body = [p for p in model.encoder.parameters() if p.requires_grad]
    groups = [
        {"params": body, "peak_lr": config.lr},
        {"params": [model.words], "peak_lr": config.head_lr},
        {
            "params": [model.threshold, model.shares, model.nearness],
            "peak_lr": SCALAR_LR_FACTOR * config.head_lr,
            "weight_decay": 0.0,
        },
    ]
    by_document, by_term = _matrices(model.impacts)

    def loss(batch: list[tuple[Tensor, Query]]) -> Tensor:
        with autocast(model.words.device, dtype):
            meaning = model.encoder.meaning([text for text, _ in batch])
        weights = model.weigh(meaning, [model.impacts.own(query) for _, query in batch])
        scores = _Corpus.apply(weights, by_document, by_term)
        if model.vectors is not None:
            scores = scores + model.nearness.exp() * (meaning @ model.vectors.T)
        right = [
            row[torch.from_numpy(_relevant(query, holders))].logsumexp(0)
            for row, (_, query) in zip(scores, batch, strict=True)
        ]
        return (scores.logsumexp(dim=1) - torch.stack(right)).mean()

    model.train()
    fit(
        groups,
        batches_by_length(samples, config.batch_size, config.epochs, random.Random(config.seed)),
        loss,
        WarmupLinear(WARMUP_STEPS, config.epochs * math.ceil(len(samples) / config.batch_size)),
        weight_decay=config.weight_decay,
        clipped=body,
        title="learned scorer",
    )


def _relevant(query: Query, holders: PhraseDocuments) -> np.ndarray:
    """int64[n]: the documents that hold an answer, ascending."""
    return np.unique(np.concatenate([holders[answer] for answer in query.answers] or [np.empty(0, np.int64)]))


def _matrices(impacts: TermImpacts) -> tuple[Tensor, Tensor]:
    """The impacts as sparse rows: float32[N, T] by document and float32[T, N] by term."""
    terms = np.repeat(np.arange(len(impacts)), np.diff(impacts.ends))
    order = np.lexsort((terms, impacts.docs))
    starts = np.concatenate([[0], np.cumsum(np.bincount(impacts.docs, minlength=impacts.documents))])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        by_term = _rows(impacts.ends, impacts.docs, impacts.weights, impacts.documents)
        by_document = _rows(starts, terms[order], impacts.weights[order], len(impacts))
    return by_document, by_term


def _rows(ends: np.ndarray, columns: np.ndarray, values: np.ndarray, width: int) -> Tensor:
    parts = [
        torch.from_numpy(np.ascontiguousarray(part)) for part in (ends, columns.astype(np.int64), values)
    ]
    return torch.sparse_csr_tensor(*parts, size=(len(ends) - 1, width), check_invariants=True)
