"""A generative retriever with an answer expert in the ensemble of its models.

How probabilities are mixed: gemkr/decoding/ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from benchmarks.okvqa.answer_expert import AnswerExpert
from benchmarks.okvqa.guessers import GUESSERS
from gemkr.config.ranges import Positive, Share
from gemkr.config.section import Section, section_files
from gemkr.errors import ConfigError
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.retrievers.generative.parts import load_parts
from gemkr.retrievers.generative.retriever import GenerativeRetriever

if TYPE_CHECKING:
    from gemkr.sources import Sources


@dataclass(frozen=True, kw_only=True)
class AnswerExpertConfig:
    """A guesser of answers in the ensemble: its best `guesses` count for `weight` of a clue's probability, the
    models share the rest equally."""

    guesser: Annotated[Section, GUESSERS]
    weight: Share = 0.5
    guesses: Positive = 60


@dataclass(frozen=True, kw_only=True)
class ExpertConfig(GenerativeConfig):
    """A generative retriever; without `answer_expert` its models alone."""

    answer_expert: AnswerExpertConfig | None = None


class ExpertRetriever(GenerativeRetriever):
    """`GenerativeRetriever` with an answer expert in its ensemble."""

    Config = ExpertConfig

    @classmethod
    def from_config(cls, config: ExpertConfig, sources: Sources) -> GenerativeRetriever:
        """As the generative retriever; ConfigError too for a weight of 0 or 1 that excludes the expert or the models."""
        expert = config.answer_expert
        if expert is None:
            return super().from_config(config, sources)
        if not 0 < expert.weight < 1:
            raise ConfigError(
                f"answer_expert.weight is {expert.weight}; between 0 and 1, or leave answer_expert out"
            )
        from gemkr.decoding.ensemble import Ensemble

        parts = load_parts(config, sources)
        first = parts.models[0]
        writer = AnswerExpert(
            expert.guesser.build(sources),
            parts.tokenizer,
            first.vocab_size,
            guesses=expert.guesses,
            device=first.device,
        )
        count = len(parts.models)
        mixed = Ensemble([*parts.models, writer], [(1 - expert.weight) / count] * count + [expert.weight])
        second = sources.scorer(config.scoring.inside_span)
        return cls(
            mixed,
            parts.index,
            parts.tokenizer,
            lambda query: (*(read(query) for read in parts.readers), query),
            config.decoding,
            config.scoring,
            second,
        )

    @staticmethod
    def input_files(config: ExpertConfig) -> dict[str, str | None]:
        """Those of the generative retriever, and the guesser's."""
        files = GenerativeRetriever.input_files(config)
        if config.answer_expert is not None:
            inner = section_files(config.answer_expert.guesser)
            files |= {f"answer_expert.{what}": path for what, path in inner.items()}
        return files
