"""Clues to write and clues to prefer: a shared batch in which some clues are learned and some were judged.

The rank loss asks that, among the clues a retriever once wrote for a query, probability go to those that were worth something:
minus the logarithm of the expected reward under the model's own probabilities, taken over the judged clues alone (minimum risk
training, Shen et al. 2016, over retrieval rewards as in LTRGR, Li et al. 2024). No reference model is needed; the cross entropy
of the learned clues beside it keeps the model a writer. A clue counts with its end, also where decoding cut it off. Batches and
losses only: the model that reads them is `GeMKR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gemkr.models.gemkr.inputs import Example
from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.models.gemkr.shared import SharedBatch, collate_shared


@dataclass(frozen=True, slots=True)
class RankedClue:
    """A clue of a prompt: `learned` as a text to write, `reward` where it was judged."""

    tokens: tuple[int, ...]
    learned: bool
    reward: float | None


RankedExample = tuple[Example, tuple[RankedClue, ...]]
"""A prompt and its clues."""


@dataclass(slots=True)
class RankedBatch:
    """C clues of B prompts (`clues`): `learned` bool[C], `reward` float32[C], NaN for clues that nobody judged.

    The rank loss counts `weight` times and reads the model's log-probabilities times `sharpness`.
    """

    clues: SharedBatch
    learned: Tensor
    reward: Tensor
    weight: float
    sharpness: float

    @property
    def labels(self) -> Tensor:
        """int64[1, 1 + C + B * S]: the targets of learned clues behind a first column that nothing predicts."""
        first = torch.where(self.learned, self.clues.first, IGNORED_LABEL)
        clue = self.clues.clue_of_slots()
        learned = (clue >= 0) & self.learned[clue.clamp(min=0)]
        later = torch.where(learned, self.clues.targets, IGNORED_LABEL)
        return F.pad(torch.cat([first, later.flatten()])[None], (1, 0), value=IGNORED_LABEL)

    def to(self, device: Any, non_blocking: bool = False) -> RankedBatch:
        """The same batch on another device."""
        moved = (t.to(device, non_blocking=non_blocking) for t in (self.learned, self.reward))
        return RankedBatch(self.clues.to(device, non_blocking), *moved, self.weight, self.sharpness)

    def pin_memory(self) -> RankedBatch:
        pinned = self.learned.pin_memory(), self.reward.pin_memory()
        return RankedBatch(self.clues.pin_memory(), *pinned, self.weight, self.sharpness)


def collate_ranked(
    samples: Sequence[RankedExample], pad_id: int, eos_id: int, weight: float, sharpness: float
) -> RankedBatch:
    """One batch of prompts with their clues."""
    shared = [(example, tuple(clue.tokens for clue in clues)) for example, clues in samples]
    every = [clue for _, clues in samples for clue in clues]
    rewards = [float("nan") if clue.reward is None else clue.reward for clue in every]
    return RankedBatch(
        collate_shared(shared, pad_id, eos_id),
        torch.tensor([clue.learned for clue in every], dtype=torch.bool),
        torch.tensor(rewards, dtype=torch.float32),
        weight,
        sharpness,
    )


def ranked_loss(log_probs: Tensor, batch: RankedBatch) -> Tensor:
    """The loss of a ranked batch from its clues' log-probabilities, ends included: float32[C].

    A mean over the learned tokens, to each of which its prompt's rank loss is added `weight` times: however a step is
    split into batches, the loss is the same.
    """
    shared = batch.clues
    prompts = len(shared.tokens)
    tokens = shared.clue_lengths() * batch.learned
    owned = torch.zeros(prompts, dtype=log_probs.dtype, device=log_probs.device)
    owned.index_add_(0, shared.owner, tokens.to(owned.dtype))
    written = -log_probs[batch.learned].sum()
    rank = rank_losses(log_probs * batch.sharpness, batch.reward, shared.owner, prompts)
    return (written + batch.weight * (owned * rank).sum()) / owned.sum()


def rank_losses(log_weights: Tensor, reward: Tensor, owner: Tensor, prompts: int) -> Tensor:
    """float32[prompts]: minus the logarithm of the expected reward of a judged clue drawn with softmax(`log_weights`).

    Zero for a prompt without a judged clue that is worth anything. `owner` int64[C] is each clue's prompt, ascending.
    """
    counts = torch.bincount(owner, minlength=prompts)
    column = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    judged = ~reward.isnan()
    shape = prompts, int(counts.max())
    table = torch.full(shape, -torch.inf, dtype=log_weights.dtype, device=log_weights.device)
    table = table.index_put((owner[judged], column[judged]), log_weights[judged])
    worth = torch.zeros(shape, dtype=log_weights.dtype, device=log_weights.device)
    worth[owner[judged], column[judged]] = reward[judged].to(worth.dtype)
    told = (worth > 0).any(dim=1)
    table, worth = table[told], worth[told]
    paid = (table + worth.log()).masked_fill(worth == 0, -torch.inf)
    losses = torch.zeros(prompts, dtype=log_weights.dtype, device=log_weights.device)
    return losses.index_put((told.nonzero()[:, 0],), table.logsumexp(1) - paid.logsumexp(1))
