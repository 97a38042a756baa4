"""Reranking by query likelihood: how probable is the question behind a hit? Needs no training (UPR, Sachan et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gemkr.config.ranges import Positive
from gemkr.errors import ModelError
from gemkr.rerankers.asking import Asked, AskingConfig, asking_files, instructed
from gemkr.rerankers.asking_scorer import AskingScorer
from gemkr.rerankers.pointwise import PointwiseReranker
from gemkr.text.normalize import normalize
from gemkr.text.tokenizer import as_written
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.sources import Sources

KIND = "query_likelihood"


class QueryLikelihoodScorer(AskingScorer):
    """The mean log-probability of the question's tokens at the end of a prompt that shows a document first; ModelError for a prompt that
    does not end in the whole question."""

    kind = KIND

    @torch.no_grad()
    def _scored(self, query: Query, prompts: Sequence[Any]) -> np.ndarray:
        model = self.asked.model
        shown = instructed(query, tidied=self.asked.tidied).question
        question = as_written(self.asked.tokenizer).encode(normalize(shown))
        batch = model.collate([ending_in(prompt, question) for prompt in prompts])
        losses, counts = model.token_losses(batch.to(model.device))
        return (-losses / counts).float().cpu().numpy()


class QueryLikelihoodReranker(PointwiseReranker):
    """`PointwiseReranker` whose scorer is how probable a language model finds the question behind each hit."""

    reads_pictures = True

    @dataclass(frozen=True, kw_only=True)
    class Config(AskingConfig):
        """As `AskingConfig`. Without a `model.prompt.template`, the packaged `query_likelihood` is used; one's own ends in
        {question}. A longer passage loses its end. `batch_size` counts hits."""

        batch_size: Positive = 8

    @classmethod
    def from_config(cls, config: Config, sources: Sources) -> QueryLikelihoodReranker:
        """Raises as `Asked.load` does."""
        asked = Asked.load(config, sources, KIND, (), "", limit=config.max_prompt_tokens)
        scorer = QueryLikelihoodScorer(asked, sources.documents, batch_size=config.batch_size)
        return cls(scorer, sources.documents, retrieval_weight=config.retrieval_weight, scaled=config.scaled)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """Every path that the model is read from."""
        return asking_files(config, KIND)


def ending_in(prompt: Any, question: Sequence[int]) -> Any:
    """The prompt as an example whose last tokens, those of the question, are to be predicted; ModelError where it has others."""
    sample = prompt.sample
    begins = len(sample.tokens) - len(question)
    if not question or sample.tokens[begins:].tolist() != list(question):
        raise ModelError(
            f"the reranker {KIND} reads the probability of the question at a prompt's end, and that of the query "
            f"{sample.query_id!r} ends otherwise; let the template end in {{question}}, raise max_prompt_tokens, and give every "
            "query a question"
        )
    return replace(prompt, sample=replace(sample, prompt_length=begins))
