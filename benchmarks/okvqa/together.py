"""From an evaluation's configuration to who writes: one model, several, or models and an answer expert.

Loads what `ensemble` and `answer_expert` name, and checks that it belongs to `model`. How they are mixed: models/ensemble.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.okvqa.opponents import WEIGHTS_FILE, require_apart
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError
from gemkr.evaluation.config import EvalConfig
from gemkr.interfaces import LanguageModel
from gemkr.types import Query

if TYPE_CHECKING:
    from benchmarks.okvqa.answer_expert import AnswerExpert
    from benchmarks.okvqa.answers import AnswerGuesser
    from gemkr.models.gemkr.network import GeMKR
    from gemkr.sources import Sources

Prompts = Callable[[Query], Any]


def writing_together(
    model: GeMKR, prompts_of: Callable[[GeMKR], Prompts], config: EvalConfig, sources: Sources
) -> tuple[LanguageModel, Prompts]:
    """The model and its prompts, or an ensemble and the prompts of its members, each of which reads in its own way.

    Raises ConfigError for members that have another tokenizer than `model`, and DataError for an answer expert that
    would learn from the queries it is asked.
    """
    if not config.ensemble and config.answer_expert is None:
        return model, prompts_of(model)
    from gemkr.decoding.ensemble import Ensemble

    models: list[LanguageModel] = [model, *_further_models(model, config)]
    count, readers = len(models), [prompts_of(member) for member in models]
    if config.answer_expert is None:
        return Ensemble(models), lambda query: tuple(read(query) for read in readers)
    weight = config.answer_expert.weight
    if not 0 < weight < 1:
        raise ConfigError(f"answer_expert.weight is {weight}; between 0 and 1, or leave answer_expert out")
    expert = _expert(model, config, sources)
    mixed = Ensemble([*models, expert], [(1 - weight) / count] * count + [weight])
    return mixed, lambda query: (*(read(query) for read in readers), query)


def _further_models(model: GeMKR, config: EvalConfig) -> list[GeMKR]:
    from gemkr.training.checkpoints.trained import load_model

    members = [load_model(member) for member in config.ensemble]
    for member, settings in zip(members, config.ensemble, strict=True):
        if member.tokenizer.fingerprint() != model.tokenizer.fingerprint():
            raise ConfigError(
                f"the ensemble's {settings.llm} has another tokenizer than {config.model.llm}; use models with one tokenizer"
            )
    return members


def _expert(model: GeMKR, config: EvalConfig, sources: Sources) -> AnswerExpert:
    from benchmarks.okvqa.answer_expert import AnswerExpert

    guesses = config.answer_expert.guesses
    guesser = expert_guesser(config, sources)
    return AnswerExpert(guesser, model.tokenizer, model.vocab_size, guesses=guesses, device=model.device)


def expert_guesser(config: EvalConfig, sources: Sources) -> AnswerGuesser:
    """What the answer expert guesses with, learned where it has not been yet; DataError as `writing_together`."""
    settings, output = config.answer_expert, Path(config.output)
    train = list(read_queries(settings.train))
    require_apart(train, sources.queries, settings.train)
    if settings.encoder is None:
        from benchmarks.okvqa.classifier import answer_classifier

        return answer_classifier(train, settings.classifier, output / WEIGHTS_FILE)
    from benchmarks.okvqa.encoder_classifier import encoder_classifier

    return encoder_classifier(train, settings.encoder, output)
