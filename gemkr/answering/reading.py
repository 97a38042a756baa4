"""Texts behind prompts: written freely, and scored. Each prompt is read once; its memory serves both.

Sees the model as `LanguageModel`; knows nothing of queries, passages or answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from gemkr.decoding.beam import beam_search
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import NoConstraint
from gemkr.decoding.logits import end_log_probs, normalizer
from gemkr.interfaces import DecodingState, LanguageModel

Tokens = tuple[int, ...]


class Reading:
    """P prompts that a model has read."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Any]) -> None:
        """One prefill."""
        self.model, self.prompts = model, prompts
        self._logits, self._state = model.prefill(prompts)

    def write(self, beam_size: int, max_tokens: int) -> list[list[Tokens]]:
        """Up to `beam_size` texts of at most `max_tokens` tokens for each prompt, by plain beam search, the likeliest first."""
        settings = DecodingConfig(
            beam_size=beam_size,
            groups=1,
            diversity=0.0,
            max_tokens=max_tokens,
            length_penalty=0.0,
            batch_size=len(self.prompts),
        )
        read = _Read(self.model, self._logits, self._state)
        found = beam_search(read, NoConstraint(self.model.eos_token_ids), self.prompts, settings)
        return [[text.tokens for text in texts] for texts in found]

    def log_probs(self, texts: Sequence[Sequence[Tokens]]) -> list[np.ndarray]:
        """float64[n_i] for the n_i texts (not empty) behind prompt i: the log-probability of each, its end included.

        Cost: one step of the model for each token of the longest text, with a row for each text that is not over.
        """
        pairs = [(owner, text) for owner, each in enumerate(texts) for text in each]
        device, (logits, state) = self.model.device, (self._logits, self._state)
        owner = torch.tensor([owner for owner, _ in pairs], dtype=torch.int64, device=device)
        lengths = torch.tensor([len(text) for _, text in pairs], dtype=torch.int64, device=device)
        tokens = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(text, dtype=torch.int64) for _, text in pairs], batch_first=True
        ).to(device)
        norm = normalizer(logits)
        total = (logits[owner, tokens[:, 0]] - norm[owner]).double()
        live, state = torch.arange(len(pairs), device=device), state.select(owner)
        for place in range(tokens.shape[1]):
            logits, state = self.model.step(tokens[live, place], state)
            norm = normalizer(logits)
            over = lengths[live] == place + 1
            ends = end_log_probs(logits, norm, self.model.eos_token_ids)
            total[live[over]] += ends[over].double()
            rest = torch.nonzero(~over)[:, 0]
            if not len(rest):
                break
            live, state = live[rest], state.select(rest)
            total[live] += (logits[rest, tokens[live, place + 1]] - norm[rest]).double()
        ends_of = np.cumsum([len(each) for each in texts])[:-1]
        return np.split(total.cpu().numpy(), ends_of)


class _Read:
    """A model whose prompts have been read already."""

    def __init__(self, model: LanguageModel, logits: torch.Tensor, state: DecodingState) -> None:
        self.vocab_size, self.eos_token_ids, self.device = model.vocab_size, model.eos_token_ids, model.device
        self.step: Callable[..., Any] = model.step
        self._read = logits, state

    def prefill(self, prompts: Sequence[Any]) -> tuple[torch.Tensor, DecodingState]:
        return self._read
