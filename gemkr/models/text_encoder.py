"""A pre-trained text encoder that reads a query for the LLM: what a small LLM cannot know, the encoder's states tell it.

What CLIP's tower is for pictures, but trained along. The second door to transformers; knows no clues and no LLM.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gemkr.config import PromptConfig, TextEncoderConfig
from gemkr.errors import ModelError, first_line
from gemkr.types import Query


class TextEncoder(nn.Module):
    """A Hugging Face encoder (BERT and its kin), all but its word embeddings trained.

    These stay as they are because most of their words stand in no training question: words that are met later keep
    the neighbours they have.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # nobody asks for a pooled state: its weights would be trained by nothing
        model.get_input_embeddings().requires_grad_(False)
        self.model = model

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    def fingerprint(self) -> str:
        """SHA-256 of the weights, names included; a quarter of a second for 22 M parameters."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """int64[B, E] right-padded, mask int64[B, E] -> the last states [B, E, width]; those of padding mean nothing."""
        return self.model(input_ids=tokens, attention_mask=mask).last_hidden_state


class TextReader:
    """From a query to the encoder's tokens: the question, then caption and labels where the prompt shows them."""

    def __init__(self, config: TextEncoderConfig, prompt: PromptConfig) -> None:
        self.config, self.prompt = config, prompt

    def __call__(self, query: Query) -> np.ndarray:
        """int64[E], 1 <= E <= `max_tokens`: special tokens as the encoder's own tokenizer puts them; the longer part is
        cut first."""
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
        return tokenizer


def load_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """Load a local Hugging Face folder (never the network), in float32.

    Raises ModelError for a folder that holds no encoder, and for a `max_tokens` beyond the encoder's positions.
    """
    from transformers import AutoModel

    _check(config)
    try:
        model = AutoModel.from_pretrained(config.folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"the text encoder folder {config.folder} cannot be loaded: {first_line(error)}"
        ) from error
    return TextEncoder(model)


def outline_text_encoder(config: TextEncoderConfig) -> TextEncoder:
    """The encoder without its weights, on the current device (torch's meta device: no memory); raises as
    `load_text_encoder`."""
    from transformers import AutoModel

    return TextEncoder(AutoModel.from_config(_check(config)))


def _check(config: TextEncoderConfig) -> Any:
    """The settings of the encoder in a folder; ModelError where there is none, or it cannot read `max_tokens`."""
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
    positions = getattr(settings, "max_position_embeddings", None)
    if positions is not None and config.max_tokens > positions:
        raise ModelError(
            f"text_encoder.max_tokens is {config.max_tokens}, the encoder {config.folder} has {positions} positions; lower it"
        )
    return settings
