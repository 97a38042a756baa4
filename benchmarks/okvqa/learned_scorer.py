"""A learned second scorer: a fine-tuned text encoder reads the query; the representations of passages are fixed.

It weighs the corpus's terms, of which passages have BM25's impacts (learned sparse retrieval, as SPLADE, Formal et al.
2021, with the passage side fixed), and finds passages near in meaning, of which they have vectors (dense retrieval). Knows
queries, terms and vectors; `learned_training` trains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.okvqa.config import LearnedScorerConfig
from benchmarks.okvqa.guessers import training_queries
from benchmarks.okvqa.impacts import TermImpacts
from gemkr.models.hf.text_encoder import TextEncoder, TextReader
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

CACHED_QUERIES = 4
"""Queries whose reading is kept: a ranking scores one query several times."""
COPY_COST = 8
"""From 1/8 of the corpus on, comparing the query with all vectors is quicker than copying the requested ones."""
SHARES = (0.3, 0.1)
"""Of the weighed terms and of the query's own words, before training."""
NEARNESS = 20.0
"""Of the cosine of query and passage, before training."""

Bags = Sequence[tuple[np.ndarray, np.ndarray]]
"""The own terms of each query, int64[n], and how often each occurs, float32[n]."""


@dataclass(frozen=True, slots=True)
class QueryReading:
    """The reading of one query: a meaning float32[width] of length 1, and the weights float32[n] of the terms int64[n] that count."""

    meaning: np.ndarray
    terms: np.ndarray
    weights: np.ndarray
    by_terms: np.ndarray
    """float32[N]: what the terms give every document."""


class LearnedScorer(nn.Module):
    """score(q, d) = sum over terms t of w(q, t) impact(t, d) + c cos(s, v_d),
    where w(q, t) = g log(1 + relu(a W_t s - b_t)) + h count(t, q).

    s is the mean of the encoder's states, of length 1, and a is `scale`; W_t starts as the encoder's own reading of the word,
    so that at first terms close in meaning weigh, and rare ones need few examples; b_t starts at `threshold`. v_d are
    `vectors` float16[N, width] (held as float32), or there are none and the last part is left out. What learns is
    the terms' weights and the encoder except its word embeddings. A `DocumentScorer`: see `score`.
    """

    Config = LearnedScorerConfig

    @classmethod
    def from_config(cls, config: LearnedScorerConfig, sources: Sources) -> LearnedScorer:
        """With the weights and vectors that `fit` left; raises as `learned_training.read`."""
        from benchmarks.okvqa import learned_training

        queries = training_queries(config.train, sources)
        return sources.once(
            ("learned scorer", config),
            lambda: learned_training.read(queries, sources.documents, sources.bm25, config),
        )

    @classmethod
    def fit(cls, config: LearnedScorerConfig, sources: Sources) -> str:
        """Learn from the training queries into the file `weights`, if it is not there, and read the passages before."""
        from benchmarks.okvqa import learned_training

        queries = training_queries(config.train, sources)
        return learned_training.learn(queries, sources.documents, sources.bm25, config)

    @staticmethod
    def input_files(config: LearnedScorerConfig) -> dict[str, str | None]:
        """Training queries and encoder; weights and vectors know themselves what they were made from."""
        return {"train": config.train, "encoder.folder": config.encoder.folder}

    def __init__(
        self,
        encoder: TextEncoder,
        reader: TextReader,
        impacts: TermImpacts,
        vectors: Tensor | None,
        config: LearnedScorerConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.reader, self.impacts, self.config = encoder, reader, impacts, config
        self.vectors = None if vectors is None else vectors.float()
        self.words = nn.Parameter(torch.zeros(len(impacts), encoder.width))
        self.threshold = nn.Parameter(torch.full((len(impacts),), config.threshold))
        self.shares = nn.Parameter(torch.tensor(SHARES))
        self.nearness = nn.Parameter(torch.tensor(math.log(NEARNESS)), requires_grad=vectors is not None)
        self._readings = lru_cache(maxsize=CACHED_QUERIES)(self._read)

    def __len__(self) -> int:
        """The number of documents."""
        return self.impacts.documents

    def weigh(self, meaning: Tensor, bags: Bags) -> Tensor:
        """float32[queries, terms], most of them 0, from meanings float32[queries, width]."""
        learned = torch.log1p(torch.relu(self.config.scale * meaning @ self.words.T - self.threshold))
        own = torch.zeros_like(learned)
        for row, (terms, counts) in zip(own, bags, strict=True):
            row[torch.from_numpy(terms)] = torch.from_numpy(counts)
        return self.shares[0] * learned + self.shares[1] * own

    def start_from_words(self, batch: int = 256) -> None:
        """Give every term the meaning that the encoder finds in its word."""
        texts = [self.text(Query("", word)) for word in self.impacts.words]
        with torch.no_grad():
            found = [self.encoder.meaning(texts[i : i + batch]) for i in range(0, len(texts), batch)]
            self.words.copy_(torch.cat(found))

    def text(self, query: Query) -> Tensor:
        """int64[E]: what the encoder reads of a query."""
        return torch.from_numpy(self.reader(query))

    def weighed_terms(self, query: Query) -> list[tuple[str, float]]:
        """The terms that count for a query, in the corpus's spelling, largest weight first: why a passage scores high."""
        found = self._readings(query)
        order = np.argsort(-found.weights, kind="stable").tolist()
        return [(self.impacts.words[found.terms[at]], float(found.weights[at])) for at in order]

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]. One pass of the encoder and about 3 ms for a query over 100,000
        passages, then 1 ms for every 1,000 documents, or 15 ms for all of them."""
        found = self._readings(query)
        scores = found.by_terms[docs]
        if self.vectors is None:
            return scores
        meaning = torch.from_numpy(found.meaning)
        if len(docs) * COPY_COST > len(self):
            near = (self.vectors @ meaning).numpy()[docs]
        else:
            near = (self.vectors[torch.from_numpy(np.asarray(docs))] @ meaning).numpy()
        return scores + float(self.nearness.detach().exp()) * near

    def _read(self, query: Query) -> QueryReading:
        with torch.inference_mode():
            meaning = self.encoder.meaning([self.text(query)])
            every = self.weigh(meaning, [self.impacts.own(query)])[0].numpy()
        terms = np.flatnonzero(every)
        weights = every[terms]
        return QueryReading(meaning[0].numpy(), terms, weights, self.impacts.score_all(terms, weights))
