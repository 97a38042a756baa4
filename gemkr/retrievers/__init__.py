"""Retrievers, one file each, and the table of their names; building one loads what it needs and no more."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from gemkr.errors import ConfigError

if TYPE_CHECKING:
    from gemkr.evaluation.config import EvalConfig
    from gemkr.interfaces import Retriever
    from gemkr.retrievers.sources import Sources

RETRIEVERS = {
    "generative": "gemkr.retrievers.factory:generative",
    "free_text": "gemkr.retrievers.factory:free_text",
    "random_in_span": "gemkr.retrievers.factory:random_in_span",
    "coverage_alone": "gemkr.retrievers.factory:coverage_alone",
    "rescored_reference": "gemkr.retrievers.factory:rescored_reference",
    "rescored_seal": "gemkr.retrievers.factory:rescored_seal",
    "rescored_coverage": "gemkr.retrievers.factory:rescored_coverage",
    "rescored_bm25": "gemkr.retrievers.factory:rescored_bm25",
    "learned_scorer": "gemkr.retrievers.factory:learned_scorer",
    "expert_alone": "gemkr.retrievers.factory:expert_alone",
    "bm25": "gemkr.retrievers.factory:bm25",
    "bm25_caption": "gemkr.retrievers.factory:bm25_caption",
    "bm25_detections": "gemkr.retrievers.factory:bm25_detections",
    "nearest_questions": "benchmarks.okvqa.opponents:nearest_questions",
    "nearest_questions_query": "benchmarks.okvqa.opponents:nearest_questions_query",
    "answer_classifier": "benchmarks.okvqa.opponents:answer_classifier",
    "answer_classifier_coverage": "benchmarks.okvqa.opponents:answer_classifier_coverage",
    "encoder_classifier_coverage": "benchmarks.okvqa.opponents:encoder_classifier_coverage",
    "fusion": "benchmarks.okvqa.opponents:fusion",
}
"""name -> "module:function"; each function takes (EvalConfig, Sources) and returns a Retriever.

The rescored ones are baselines beside `generative`: the clues that it left in the output folder, ranked anew.
"""


def require_known(name: str) -> None:
    """Raise ConfigError unless a retriever has this name."""
    if name not in RETRIEVERS:
        raise ConfigError(f"the retriever {name!r} is unknown; known are {', '.join(RETRIEVERS)}")


def learns(name: str) -> bool:
    """Whether a retriever learns from the training queries of the section `opponents`."""
    require_known(name)
    return RETRIEVERS[name].startswith("benchmarks.okvqa.opponents:")


def build_retriever(
    config: EvalConfig, sources: Sources | None = None, *, name: str | None = None
) -> Retriever:
    """The retriever that a configuration names (or `name`, for a baseline over the same material).

    Hand over one `Sources` to build several retrievers without loading anything twice. Raises a GemkrError in one
    sentence when parts are missing or do not belong together.
    """
    from gemkr.retrievers.sources import Sources

    name = name or config.retriever
    require_known(name)
    module, function = RETRIEVERS[name].split(":")
    return getattr(import_module(module), function)(config, sources or Sources(config))
