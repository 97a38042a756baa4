"""Reranking by a question to a language model about each hit: does it help? The score is the probability of yes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkr.config.ranges import Positive
from gemkr.rerankers.asking import Asked, AskingConfig, asking_files
from gemkr.rerankers.asking_scorer import AskingScorer
from gemkr.rerankers.pointwise import PointwiseReranker
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

KIND = "yes_no"


class YesNoScorer(AskingScorer):
    """p(yes) / (p(yes) + p(no)) of each document, with the probabilities of these answers behind a prompt of the query and it.

    `asked.answers` are the tokens of yes and no, in this order.
    """

    kind = KIND

    def _scored(self, query: Query, prompts: Sequence[Any]) -> np.ndarray:
        logits = self.asked.logits(prompts)
        return np.exp(-np.logaddexp(0, logits[:, 1] - logits[:, 0]))


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
        return cls(scorer, sources.documents, retrieval_weight=config.retrieval_weight, scaled=config.scaled)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Every path that the model is read from."""
        return asking_files(config, KIND)
