"""Reranking by a question to a language model about each hit: does it help? The score is the probability of yes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gemkr.config.ranges import Positive
from gemkr.rerankers.asking import Asked, AskingConfig, asking_files
from gemkr.rerankers.candidates import candidates_of
from gemkr.rerankers.pointwise import PointwiseReranker
from gemkr.types import Document, Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

KIND = "yes_no"


class YesNoScorer:
    """p(yes) / (p(yes) + p(no)) of each document, with the probabilities of these answers behind a prompt of the query and it.

    `asked.answers` are the tokens of yes and no, in this order.
    """

    def __init__(self, asked: Asked, documents: Sequence[Document], *, batch_size: int = 8) -> None:
        self.asked, self.documents, self.batch_size = asked, documents, batch_size

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]; DataError for one of which nothing can be read. Costs one prompt for each."""
        shown = candidates_of(query, self.documents, docs, KIND, pictures=self.asked.sees_documents)
        scores = np.zeros(len(shown), np.float32)
        by_length = sorted(range(len(shown)), key=lambda i: len(shown[i].text))  # little padding
        for start in range(0, len(shown), self.batch_size):
            rows = by_length[start : start + self.batch_size]
            prompts = [
                self.asked.prompts(query, passage=shown[i].passage, images=shown[i].images) for i in rows
            ]
            logits = self.asked.logits(prompts)
            scores[rows] = np.exp(-np.logaddexp(0, logits[:, 1] - logits[:, 0]))
        return scores


class YesNoReranker(PointwiseReranker):
    """`PointwiseReranker` whose scorer asks a language model about each hit."""

    reads_pictures = True

    @dataclass(frozen=True, kw_only=True)
    class Config(AskingConfig):
        """As `AskingConfig`; `yes` and `no` are the words whose logits are read, one token each. Without a
        `model.prompt.template`, the packaged `yes_no` is used; a longer passage loses its end. `batch_size` counts hits."""

        yes: str = "Yes"
        no: str = "No"
        batch_size: Positive = 8

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> YesNoReranker:
        """Raises as `Asked.load` does."""
        asked = Asked.load(
            config,
            sources,
            KIND,
            (config.yes, config.no),
            "set yes and no to two words of one token each, and a template that asks for them",
            limit=config.max_prompt_tokens,
        )
        scorer = YesNoScorer(asked, sources.documents, batch_size=config.batch_size)
        return cls(scorer, sources.documents, retrieval_weight=config.retrieval_weight)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Every path that the model is read from."""
        return asking_files(config, KIND)
