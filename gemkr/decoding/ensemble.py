"""Several models that write together: the weighted mean of the probabilities that they give to a clue.

To a search it is one `LanguageModel`. Knows nothing of what the models read; they need the same tokens.
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
    """B beams of M members.

    `states`: the members' own, row i the same beam in all. The last step had R rows, of which beam i continues
    `rows[i]` (int64[B]): `logs` float32[M, R, V] are the members' log-probabilities there, `credit` float32[M, R] the
    logarithm of what each member counts there.
    """

    states: tuple[DecodingState, ...]
    logs: torch.Tensor
    credit: torch.Tensor
    rows: torch.Tensor

    def select(self, rows: Any) -> EnsembleState:
        """Rows `rows` (int64[B'], repeats and drops allowed); the old state stays valid."""
        states = tuple(state.select(rows) for state in self.states)
        there = torch.as_tensor(rows, dtype=torch.int64, device=self.rows.device)
        return EnsembleState(states, self.logs, self.credit, self.rows[there])


class Ensemble:
    """The `LanguageModel` whose probability of a clue c is sum_m w_m p_m(c); costs as much as all members one after the other.

    Token by token: a member counts by its weight times the probability that it gave to the clue so far, so that one
    that had not written a clue's beginning has no say in its continuation. The mixture of experts of one prediction, as
    kNN-LM mixes two (Khandelwal et al. 2020, eq. 3), taken over whole clues.
    """

    def __init__(self, members: Sequence[LanguageModel], weights: Sequence[float] | None = None) -> None:
        """`weights` are positive, one for each member, and are scaled to sum to 1; None: equal ones.

        Raises ModelError for no member, for weights that do not fit, and for members whose vocabulary or ends of text
        differ.
        """
        if not members:
            raise ModelError("an ensemble needs at least one model")
        weights = [1.0] * len(members) if weights is None else list(weights)
        if len(weights) != len(members) or not all(weight > 0 for weight in weights):
            raise ModelError(
                f"an ensemble of {len(members)} models needs as many positive weights, it has {weights}"
            )
        self.members = tuple(members)
        self.weights = tuple(weight / math.fsum(weights) for weight in weights)
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

    def prefill(self, prompts: Sequence[Sequence[Any]]) -> tuple[torch.Tensor, EnsembleState]:
        """Log-probabilities float32[Q, V] and the state of Q rows; a prompt is a sequence of one prompt for each member."""
        parts = [member.prefill([prompt[i] for prompt in prompts]) for i, member in enumerate(self.members)]
        credit = torch.tensor(self.weights, device=self.device).log()[:, None].expand(-1, len(prompts))
        return self._mixed(parts, credit)

    def step(self, tokens: torch.Tensor, state: EnsembleState) -> tuple[torch.Tensor, EnsembleState]:
        """Feed one token per row, int64[B]: log-probabilities float32[B, V] and the new state."""
        pairs = zip(self.members, state.states, strict=True)
        parts = [member.step(tokens, own) for member, own in pairs]
        credit = state.credit[:, state.rows] + state.logs[:, state.rows, tokens.to(self.device)]
        return self._mixed(parts, credit.log_softmax(dim=0))

    def _mixed(
        self, parts: Sequence[tuple[torch.Tensor, DecodingState]], credit: torch.Tensor
    ) -> tuple[torch.Tensor, EnsembleState]:
        logs = torch.stack([logits.float().log_softmax(dim=-1).to(self.device) for logits, _ in parts])
        rows = torch.arange(logs.shape[1], device=self.device)
        state = EnsembleState(tuple(state for _, state in parts), logs, credit, rows)
        return (logs + credit[:, :, None]).logsumexp(dim=0), state
