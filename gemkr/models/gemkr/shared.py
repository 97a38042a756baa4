"""Several clues behind one prompt: the query is read once, and all of its clues follow it side by side in one row.

The loss is exactly that of one row per clue, at a fraction of the cost, because prompts are long and clues are short.
Each clue sees the prompt and itself, never its neighbours. Batches only: the model that reads them is `GeMKR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gemkr.models.gemkr.inputs import Batch, Example, collate
from gemkr.models.gemkr.prompt import IGNORED_LABEL

SharedExample = tuple[Example, tuple[tuple[int, ...], ...]]
"""A prompt and the token ids of its clues."""
NO_CLUE = -1
"""The clue number of padding."""


@dataclass(slots=True)
class SharedBatch:
    """B prompts of T tokens, S slots behind each for the tokens of its clues, C clues in all.

    Slots, int64[B, S] each: `tokens`; `number`, which of the prompt's clues a slot belongs to (NO_CLUE: padding);
    `place`, its position in the clue; `targets`, what comes next: the clue's next token, at last EOS. A clue's own
    first token is predicted by its prompt: `owner` int64[C], the prompt's row, and `first` int64[C].
    """

    prompts: Batch
    tokens: Tensor
    number: Tensor
    place: Tensor
    targets: Tensor
    owner: Tensor
    first: Tensor

    @property
    def labels(self) -> Tensor:
        """int64[1, 1 + C + B * S]: all targets behind a first column that nothing predicts."""
        return F.pad(torch.cat([self.first, self.targets.flatten()])[None], (1, 0), value=IGNORED_LABEL)

    def visible(self) -> Tensor:
        """bool[B, T + S, T + S]: prompts read from left to right, each clue its prompt and its own past."""
        prompt, slots = self.prompts.mask.bool(), self.tokens.shape[1]
        length = prompt.shape[1]
        seen = torch.ones(length + slots, length + slots, dtype=torch.bool, device=prompt.device).tril()
        seen = seen & F.pad(prompt, (0, slots), value=True)[:, None]
        own = F.pad(self.number, (length, 0), value=NO_CLUE)
        behind = torch.arange(length + slots, device=prompt.device) >= length
        return seen & (~behind | (own[:, :, None] == own[:, None]))

    def positions(self) -> Tensor:
        """int64[B, T + S]: 0 at a prompt's first token; every clue begins right after its prompt."""
        mask = self.prompts.mask
        return torch.cat([(mask.cumsum(1) - 1).clamp(min=0), mask.sum(1, keepdim=True) + self.place], dim=1)

    def clue_of_slots(self) -> Tensor:
        """int64[B, S]: which of the batch's C clues a slot belongs to, NO_CLUE for padding."""
        counts = torch.bincount(self.owner, minlength=len(self.tokens))
        before = counts.cumsum(0) - counts
        return torch.where(self.number == NO_CLUE, NO_CLUE, self.number + before[:, None])

    def clue_lengths(self) -> Tensor:
        """int64[C]: the targets of each clue, its end among them."""
        clue = self.clue_of_slots()
        return 1 + torch.bincount(clue[clue >= 0], minlength=len(self.first))

    def to(self, device: Any, non_blocking: bool = False) -> SharedBatch:
        """The same batch on another device."""
        prompts = self.prompts.to(device, non_blocking)
        return SharedBatch(prompts, *(t.to(device, non_blocking=non_blocking) for t in self._tensors()))

    def pin_memory(self) -> SharedBatch:
        return SharedBatch(self.prompts.pin_memory(), *(t.pin_memory() for t in self._tensors()))

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.tokens, self.number, self.place, self.targets, self.owner, self.first


def collate_shared(samples: Sequence[SharedExample], pad_id: int, eos_id: int) -> SharedBatch:
    """One batch of prompts with their clues."""
    shape = len(samples), max(sum(map(len, clues)) for _, clues in samples)
    tokens, targets = np.full(shape, pad_id, np.int64), np.full(shape, IGNORED_LABEL, np.int64)
    number, place = np.full(shape, NO_CLUE, np.int64), np.zeros(shape, np.int64)
    for row, (_, clues) in enumerate(samples):
        start = 0
        for which, clue in enumerate(clues):
            slots = row, slice(start, start + len(clue))
            tokens[slots], targets[slots] = clue, (*clue[1:], eos_id)
            number[slots], place[slots] = which, np.arange(len(clue))
            start += len(clue)
    owner = np.repeat(np.arange(len(samples)), [len(clues) for _, clues in samples])
    first = np.array([clue[0] for _, clues in samples for clue in clues], np.int64)
    arrays = tokens, number, place, targets, owner, first
    return SharedBatch(collate([example for example, _ in samples], pad_id), *map(torch.from_numpy, arrays))
