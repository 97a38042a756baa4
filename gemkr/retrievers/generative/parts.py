"""From a generative retriever's settings to its parts: model or ensemble, prompts, index; and checks that they belong together.

Every check runs before the first query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gemkr.errors import ConfigError, ModelError
from gemkr.interfaces import LanguageModel, TokenIndex
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.text.index_tokenizer import require_same_texts, tokenizer_of
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query

if TYPE_CHECKING:
    from gemkr.fm_index import FMIndex, SegmentedIndex
    from gemkr.models.gemkr.writer import Writer
    from gemkr.sources import Sources

Prompts = Callable[[Query], Any]


@dataclass(frozen=True)
class Parts:
    """What a generative retriever is made of; `models` are the networks behind `model`, each with its own prompts."""

    model: LanguageModel
    prompts: Prompts
    index: TokenIndex
    tokenizer: Tokenizer
    models: tuple[Writer, ...]
    readers: tuple[Prompts, ...]


def load_parts(config: GenerativeConfig, sources: Sources) -> Parts:
    """The parts, after all checks; the cheap ones are looked at before a model is loaded.

    Raises ConfigError for an ensemble whose members have several tokenizers, ModelError, DataError, TokenizerError and
    VisionError where parts are missing or do not belong together.
    """
    index = check_parts(config, sources)
    pictures = regions = None
    if config.model.sees_pictures and sources.pictures is not None:
        pictures = sources.pictures
        if any(settings.sees_regions for settings in (config.model, *config.ensemble)):
            regions = sources.regions
        from gemkr.vision.pictures import require_pictures

        require_pictures(sources.queries, pictures, regions)
    model = sources.model(config.model)
    tokenizer = require_compatible(index, model)
    models = (model, *_members(model, config, sources))

    def reader(member: Writer) -> Prompts:
        build = member.input_builder(pictures, regions, max_prompt_tokens=config.max_prompt_tokens)
        return lambda query: build(query, form=config.form)

    readers = tuple(map(reader, models))
    if len(models) == 1:
        return Parts(model, readers[0], index, tokenizer, models, readers)
    from gemkr.decoding.ensemble import Ensemble

    return Parts(Ensemble(list(models)), prompts_of_all(readers), index, tokenizer, models, readers)


def check_parts(config: GenerativeConfig, sources: Sources) -> FMIndex | SegmentedIndex:
    """The index, after the checks that need no model: settings, kinds of checkpoints, and whether the model's tokenizer makes of the
    corpus what the index holds. Raises as `load_parts`."""
    from gemkr.decoding.checks import check_settings
    from gemkr.training.checkpoints.trained import require_kind
    from gemkr.training.finetune import KIND

    check_settings(config.decoding)
    for settings in (config.model, *config.ensemble):
        require_kind(settings, KIND, "gemkr train")
    index = sources.index(config.index)
    tokenizer = tokenizer_of(index, sources.tokenizer(config.model))
    require_same_texts(index, sources.documents.contents, tokenizer)
    return index


def prompts_of_all(readers: tuple[Prompts, ...]) -> Prompts:
    """A prompt of an ensemble: one of each member."""
    return lambda query: tuple(read(query) for read in readers)


def require_compatible(index: FMIndex | SegmentedIndex, model: Writer) -> Tokenizer:
    """The model's tokenizer as the index read its texts; raises unless the index can steer the model: same tokenizer,
    vocabulary not wider than the logits."""
    tokenizer = tokenizer_of(index, model.tokenizer)
    if index.vocab_size > model.vocab_size:
        raise ModelError(
            f"the index has a vocabulary of {index.vocab_size} tokens, the model's logits have {model.vocab_size}; "
            "build the index with the model's tokenizer"
        )
    return tokenizer


def _members(model: Writer, config: GenerativeConfig, sources: Sources) -> list[Writer]:
    members = [sources.model(member) for member in config.ensemble]
    for member, settings in zip(members, config.ensemble, strict=True):
        if member.tokenizer.fingerprint() != model.tokenizer.fingerprint():
            raise ConfigError(
                f"the ensemble's {settings.base} has another tokenizer than {config.model.base}; use models with one tokenizer"
            )
    return members
