"""Several models that write together: at every token, the mean of their probabilities.

To a search it is one `LanguageModel`. Knows nothing of what the models read; they need the same tokenizer and prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gemkr.errors import ModelError
from gemkr.interfaces import DecodingState, LanguageModel


@dataclass(frozen=True, slots=True)
class EnsembleState:
    """The members' states; row i is the same beam in all of them."""

    states: tuple[DecodingState, ...]

    def select(self, rows: Any) -> EnsembleState:
        """Rows `rows` (int64[B'], repeats and drops allowed); the old state stays valid."""
        return EnsembleState(tuple(state.select(rows) for state in self.states))


class Ensemble:
    """The `LanguageModel` that averages its members; costs as much as all of them one after the other."""

    def __init__(self, members: Sequence[LanguageModel]) -> None:
        """Raises ModelError for no member, and for members whose vocabulary or ends of text differ."""
        if not members:
            raise ModelError("an ensemble needs at least one model")
        self.members = tuple(members)
        first = self.members[0]
        for number, other in enumerate(self.members[1:], 2):
            if (other.vocab_size, tuple(other.eos_token_ids)) != (
                first.vocab_size,
                tuple(first.eos_token_ids),
            ):
                raise ModelError(
                    f"model {number} of the ensemble has {other.vocab_size} tokens and ends with {tuple(other.eos_token_ids)}, "
                    f"the first has {first.vocab_size} and {tuple(first.eos_token_ids)}; use models with one tokenizer"
                )

    @property
    def vocab_size(self) -> int:
        return self.members[0].vocab_size

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return tuple(self.members[0].eos_token_ids)

    @property
    def device(self) -> Any:
        return self.members[0].device

    def prefill(self, prompts: Sequence[Any]) -> tuple[torch.Tensor, EnsembleState]:
        """The log-probabilities after each prompt, float32[Q, V], and the state of Q rows."""
        return self._mean([member.prefill(prompts) for member in self.members])

    def step(self, tokens: torch.Tensor, state: EnsembleState) -> tuple[torch.Tensor, EnsembleState]:
        """Feed one token per row, int64[B]: log-probabilities float32[B, V] and the new state."""
        pairs = zip(self.members, state.states, strict=True)
        return self._mean([member.step(tokens, own) for member, own in pairs])

    def _mean(
        self, parts: Sequence[tuple[torch.Tensor, DecodingState]]
    ) -> tuple[torch.Tensor, EnsembleState]:
        logs = torch.stack([logits.float().log_softmax(dim=-1).to(self.device) for logits, _ in parts])
        mean = logs.logsumexp(dim=0) - math.log(len(parts))
        return mean, EnsembleState(tuple(state for _, state in parts))
