"""Settings of one evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.okvqa.config import AnswerExpertConfig, LearnedScorerConfig, OpponentsConfig
from gemkr.config.ranges import Natural, Positive, Seed
from gemkr.decoding.config import DecodingConfig
from gemkr.models.gemkr.config import ModelConfig
from gemkr.retrievers.generative.config import ScoringConfig


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation experiment: `gemkr eval CONFIG` retrieves, scores and reports.

    `ensemble` are further models of the same tokenizer, whose probabilities of a clue are averaged with `model`'s; what
    each reads is its own affair. `answer_expert` joins them. `learned_scorer` is the second scorer `learned`, also a retriever.
    `form` asks the model for a clue form (short, long) that it was trained with; `baselines` are names of further
    retrievers over the same queries and corpus; `cards` is the number of queries that the report shows one by one.
    """

    queries: str
    corpus: str
    output: str
    retriever: str = "generative"
    model: ModelConfig | None = None
    ensemble: tuple[ModelConfig, ...] = ()
    answer_expert: AnswerExpertConfig | None = None
    index: str | None = None
    images: str | None = None
    regions: str | None = None
    decoding: DecodingConfig = DecodingConfig()
    scoring: ScoringConfig = ScoringConfig()
    learned_scorer: LearnedScorerConfig | None = None
    opponents: OpponentsConfig | None = None
    qrels: str | None = None
    match: str | None = None
    metrics: tuple[str, ...] = ("P@5", "S@1", "S@5", "S@10", "MRR@10", "D@10")
    k: Positive = 10
    form: str | None = None
    max_prompt_tokens: Positive | None = None
    baselines: tuple[str, ...] = ()
    cards: Natural = 60
    limit: Positive | None = None
    seed: Seed = 0
