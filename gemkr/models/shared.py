"""Several clues behind one prompt: the query is read once, and its keys and values serve all of its clues.

The loss is exactly that of one row per clue, at a fraction of the cost, because prompts are long and clues are short.
Batches only: the model that reads them is `GeMKR`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gemkr.models.inputs import Batch, Example, collate
from gemkr.models.prompt import IGNORED_LABEL

SharedExample = tuple[Example, tuple[tuple[int, ...], ...]]
"""A prompt and the token ids of its clues."""


@dataclass(slots=True)
class SharedBatch:
    """B prompts and their C clues: `clues` and `targets` int64[C, L], right-padded, and `owner` int64[C], a prompt's row.

    `clues` are the clues' tokens, `targets[:, t]` what comes after t of them: the clue's next token, at last EOS.
    """

    prompts: Batch
    clues: Tensor
    targets: Tensor
    owner: Tensor

    @property
    def labels(self) -> Tensor:
        """int64[C, L + 1]: the targets behind a first column that nothing predicts."""
        return F.pad(self.targets, (1, 0), value=IGNORED_LABEL)

    def to(self, device: Any, non_blocking: bool = False) -> SharedBatch:
        """The same batch on another device."""
        return SharedBatch(
            self.prompts.to(device, non_blocking),
            *(t.to(device, non_blocking=non_blocking) for t in (self.clues, self.targets, self.owner)),
        )

    def pin_memory(self) -> SharedBatch:
        return SharedBatch(
            self.prompts.pin_memory(), *(t.pin_memory() for t in (self.clues, self.targets, self.owner))
        )


def collate_shared(samples: Sequence[SharedExample], pad_id: int, eos_id: int) -> SharedBatch:
    """One batch of prompts with their clues."""
    clues = [clue for _, own in samples for clue in own]
    length = 1 + max(map(len, clues))
    tokens = np.full((len(clues), length - 1), pad_id, np.int64)
    targets = np.full((len(clues), length), IGNORED_LABEL, np.int64)
    for i, clue in enumerate(clues):
        tokens[i, : len(clue)] = clue
        targets[i, : len(clue) + 1] = (*clue, eos_id)
    owner = np.repeat(np.arange(len(samples)), [len(own) for _, own in samples])
    return SharedBatch(
        collate([example for example, _ in samples], pad_id),
        torch.from_numpy(tokens),
        torch.from_numpy(targets),
        torch.from_numpy(owner),
    )
