"""What is refused before a search begins: settings that describe none, words that nobody knows, a vocabulary too wide."""

from __future__ import annotations

import numpy as np

from gemkr.decoding.config import ENGINES, DecodingConfig
from gemkr.errors import DecodingError, ModelError
from gemkr.interfaces import LanguageModel


def check_settings(settings: DecodingConfig) -> None:
    """Raise DecodingError unless the settings describe a search that can run."""
    if settings.beam_size < 1 or settings.groups < 1 or settings.beam_size % settings.groups:
        raise DecodingError(
            f"beam_size {settings.beam_size} cannot be shared evenly by {settings.groups} groups;"
            " choose a beam_size that is a multiple of groups"
        )
    if settings.max_tokens < 1 or settings.min_tokens > settings.max_tokens:
        raise DecodingError(
            f"a clue of at least {settings.min_tokens} and at most {settings.max_tokens} tokens is impossible;"
            " choose 1 <= min_tokens <= max_tokens"
        )
    for name, least in (("batch_size", 1), ("head_words", 1), ("beams_per_head", 1)):
        if getattr(settings, name) < least:
            raise DecodingError(f"{name} is {getattr(settings, name)} but must be at least {least}")
    for name in ("diversity", "document_penalty"):
        if not getattr(settings, name) >= 0:
            raise DecodingError(f"{name} is {getattr(settings, name)} but must not be negative")
    if settings.engine not in ENGINES:
        raise DecodingError(f"engine is {settings.engine!r}; use {', '.join(ENGINES)}")
    if not -10 <= settings.length_penalty <= 10:
        raise DecodingError(f"length_penalty is {settings.length_penalty} but must be between -10 and 10")
    if settings.group_by_head and settings.groups > 1:
        raise DecodingError(
            f"group_by_head replaces the {settings.groups} diversity groups; set groups to 1 or group_by_head to"
            " false"
        )


def require_words(settings: DecodingConfig, word_start: np.ndarray | None) -> None:
    """Raise DecodingError where the settings need to know which tokens start a word and the model does not know."""
    if word_start is None and (settings.word_start or settings.group_by_head):
        raise DecodingError(
            "word_start and group_by_head need to know which tokens start a word; pass the tokenizer's"
            " word-start array or set both to false"
        )


def check_vocabulary(model: LanguageModel, index_vocabulary: int) -> None:
    """Raise ModelError unless the model can score every token of the index."""
    if index_vocabulary > model.vocab_size:
        raise ModelError(
            f"the index's vocabulary has {index_vocabulary} tokens but the model scores only"
            f" {model.vocab_size}; build the index with the model's own tokenizer"
        )
