"""A pre-trained text encoder that reads a query for the LLM: what a small LLM cannot know, the encoder's states bring.

What CLIP's tower is for pictures, but trained along. The second door to transformers; knows no clues and no LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from gemkr.errors import ModelError, first_line
from gemkr.models.hf.config import PromptConfig, TextEncoderConfig
from gemkr.models.hf.folder import load_folder
from gemkr.models.weights import load_weights, weights_digest
from gemkr.types import Query

TUNED = "encoder.model."
"""Before the encoder's own names in the weight file of an answer classifier."""


class TextEncoder(nn.Module):
    """A Hugging Face encoder (BERT and similar), frozen, or all but its word embeddings trained.

    These stay as they are because most of their words stand in no training question: words that are met later keep
    the neighbours they have.
    """

    def __init__(self, model: nn.Module, *, train: bool = True) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # nobody uses a pooled state: its weights would be trained by nothing
        model.requires_grad_(train)
        model.get_input_embeddings().requires_grad_(False)
        self.model, self.learns = model, train

    def train(self, mode: bool = True) -> TextEncoder:
        """A frozen encoder stays in evaluation mode: it drops nothing."""
        return super().train(mode and self.learns)

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    def fingerprint(self) -> str:
        """SHA-256 of the weights, names included; a quarter of a second for 22 M parameters."""
        return weights_digest(self.model.state_dict())

    def frozen_fingerprint(self) -> str:
        """The same of the weights that do not learn: a model's checkpoint does not hold them."""
        return weights_digest({name: p for name, p in self.model.named_parameters() if not p.requires_grad})

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """int64[B, E] right-padded, mask int64[B, E] -> the last states [B, E, width]; those of padding mean nothing."""
        return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state

    def meaning(self, texts: Sequence[torch.Tensor]) -> torch.Tensor:
        """float32[texts, width], each of length 1: the mean of a text's states. Each text is int64[E]."""
        tokens = pad_sequence(list(texts), batch_first=True)
        mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
        weights = mask[:, :, None].float()
        mean = (self(tokens, mask) * weights).sum(dim=1) / weights.sum(dim=1)
        return F.normalize(mean, dim=-1)


class TextReader:
    """From a query to the encoder's tokens: the question, then caption and labels where the prompt shows them."""

    def __init__(self, config: TextEncoderConfig, prompt: PromptConfig) -> None:
        self.config, self.prompt = config, prompt

    def __call__(self, query: Query) -> np.ndarray:
        """int64[E], 1 <= E <= `max_tokens`: special tokens as the encoder's own tokenizer puts them; the longer part is
        cut first. ModelError for a folder without a tokenizer, or a `max_tokens` that its special tokens fill alone."""
        caption = (query.caption or "") if self.prompt.caption else ""
        labels = ", ".join(query.detections) if self.prompt.detections else ""
        context = ". ".join(part for part in (caption, labels) if part)
        pair = (query.question, context) if context else (query.question,)
        tokens = self._tokenizer(*pair, truncation=True, max_length=self.config.max_tokens)["input_ids"]
        return np.array(tokens, np.int64)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = self.config.folder
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"the tokenizer of the text encoder {folder} cannot be loaded: {first_line(error)}"
            ) from error
        if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
            raise ModelError(
                f"the text encoder folder {folder} has no tokenizer that knows a word; put its tokenizer.json or vocab.txt there"
            )
        special = tokenizer.num_special_tokens_to_add(pair=self.prompt.caption or self.prompt.detections)
        if self.config.max_tokens <= special:
            raise ModelError(
                f"text_encoder.max_tokens is {self.config.max_tokens}, the tokenizer of {folder} puts {special} special tokens "
                f"around the words; raise it to {special + 1} or more"
            )
        return tokenizer


def load_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Load a local Hugging Face folder (never the network), in float32.

    Raises ModelError for a folder that holds no encoder or not all of its weights, for a `max_tokens` beyond the
    encoder's positions, and for `weights` that are not there or of another encoder.
    """
    from transformers import AutoModel

    _check(config)
    model = load_folder(AutoModel, config.folder, "text encoder", torch.float32, spare="pooler")
    check_positions(model, config.max_tokens, config.folder)
    encoder = TextEncoder(model, train=config.train)
    if config.weights is not None:
        _load_tuned(encoder, config.weights)
    return encoder


def _load_tuned(encoder: TextEncoder, path: str) -> None:
    """Put in what an answer classifier over the same encoder has learned."""
    if not Path(path).is_file():
        raise ModelError(
            f"text_encoder.weights {path} is not there; name the weight file that it was fine-tuned into"
        )
    try:
        held = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"text_encoder.weights {path} cannot be read: {first_line(error)}") from error
    tuned = {name.removeprefix(TUNED): tensor for name, tensor in held.items() if name.startswith(TUNED)}
    words = encoder.model.get_input_embeddings().weight
    own = encoder.model.named_parameters()
    learned = {name: parameter for name, parameter in own if parameter is not words or name in tuned}
    load_weights(
        learned,
        tuned,
        f"text_encoder.weights {path}",
        model="the encoder",
        remedy="give the weight file of a classifier over the same encoder",
    )


def outline_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """The encoder without its weights, on the current device (torch's meta device: no memory); raises as
    `load_text_encoder`."""
    from transformers import AutoModel

    model = AutoModel.from_config(_check(config))
    check_positions(model, config.max_tokens, config.folder)
    return TextEncoder(model, train=config.train)


def _check(config: TextEncoderConfig) -> Any:
    """The settings of the encoder in a folder; ModelError where there is none."""
    from transformers import AutoConfig

    if not (Path(config.folder) / "config.json").is_file():
        raise ModelError(
            f"the text encoder folder {config.folder} holds no config.json; give a local Hugging Face folder"
        )
    try:
        settings = AutoConfig.from_pretrained(config.folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the text encoder folder {config.folder} cannot be described: {first_line(error)}"
        ) from error
    if settings.is_encoder_decoder:
        raise ModelError(
            f"{config.folder} holds an encoder and a decoder ({settings.model_type}); give a text encoder such as BERT"
        )
    return settings


def check_positions(
    model: nn.Module, max_tokens: int, folder: str, setting: str = "text_encoder.max_tokens"
) -> None:
    """ModelError for a `max_tokens` beyond the positions that a text can have: RoBERTa's first stand for its padding."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return
    tables = [module for name, module in model.named_modules() if name.endswith("position_embeddings")]
    padding = [number for table in tables if (number := getattr(table, "padding_idx", None)) is not None]
    positions -= max(padding, default=-1) + 1
    if max_tokens > positions:
        raise ModelError(
            f"{setting} is {max_tokens}, the encoder {folder} has {positions} positions for them; lower it"
        )
