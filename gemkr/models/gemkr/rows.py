"""The rows of a batch: prompts, the clues that are to be learned, and the rewards of judged ones, whatever else a model reads.

A clue to learn stands in its prompt's own row, or several follow one prompt side by side under a mask: then the query is read
once, and the loss is exactly that of a row for each clue, at a fraction of the cost, because prompts are long and clues are
short. Knows no weights and no pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gemkr.models.gemkr.prompt import IGNORED_LABEL, Sample

NO_CLUE = -1
"""The clue number of padding."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClueTarget:
    """A clue behind a prompt: `learned` as a text to write, `reward` in [0, 1] where it was judged."""

    tokens: tuple[int, ...]
    learned: bool = True
    reward: float | None = None


class Row(Protocol):
    """An example as far as rows know it: a clue to learn stands in the sample, or `clues` follow a bare prompt."""

    @property
    def sample(self) -> Sample: ...

    @property
    def clues(self) -> tuple[ClueTarget, ...]: ...


class RankWeight(NamedTuple):
    """The rank loss counts `weight` times and reads the model's log-probabilities times `sharpness`."""

    weight: float = 1.0
    sharpness: float = 1.0


@dataclass(slots=True)
class Clues:
    """C clues behind B prompts, S slots behind each for the tokens of its clues.

    Slots, int64[B, S] each: `tokens`; `number`, which of the prompt's clues a slot belongs to (NO_CLUE: padding);
    `place`, its position in the clue; `targets`, what comes next: the clue's next token, at last EOS. A clue's own
    first token is predicted by its prompt: `owner` int64[C], the prompt's row, ascending, and `first` int64[C].
    `learned` bool[C]: clues to write. With a rank loss `rank`, `reward` float32[C] is NaN for clues that nobody judged.
    """

    tokens: Tensor
    number: Tensor
    place: Tensor
    targets: Tensor
    owner: Tensor
    first: Tensor
    learned: Tensor
    reward: Tensor | None = None
    rank: RankWeight | None = None

    def clue_of_slots(self) -> Tensor:
        """int64[B, S]: which of the batch's C clues a slot belongs to, NO_CLUE for padding."""
        counts = torch.bincount(self.owner, minlength=len(self.tokens))
        before = counts.cumsum(0) - counts
        return torch.where(self.number == NO_CLUE, NO_CLUE, self.number + before[:, None])

    def lengths(self) -> Tensor:
        """int64[C]: the targets of each clue, its end among them."""
        clue = self.clue_of_slots()
        return 1 + torch.bincount(clue[clue >= 0], minlength=len(self.first))


@dataclass(slots=True, kw_only=True)
class Rows:
    """B rows, left-padded to T tokens: `tokens`, `mask`, `labels` int64[B, T]; `clues` behind them, where there are some."""

    tokens: Tensor
    mask: Tensor
    labels: Tensor
    clues: Clues | None = None

    def target_count(self) -> int:
        """How many tokens are learned; the first of a row has nothing to be predicted from."""
        in_rows = int((self.labels[:, 1:] != IGNORED_LABEL).sum())
        return in_rows + (0 if self.clues is None else int(self.clues.lengths()[self.clues.learned].sum()))

    def visible(self) -> Tensor:
        """bool[B, T + S, T + S]: prompts read from left to right, each clue behind them its prompt and its own past."""
        prompt, slots = self.mask.bool(), self.clues.tokens.shape[1]
        length = prompt.shape[1]
        seen = torch.ones(length + slots, length + slots, dtype=torch.bool, device=prompt.device).tril()
        seen = seen & F.pad(prompt, (0, slots), value=True)[:, None]
        own = F.pad(self.clues.number, (length, 0), value=NO_CLUE)
        behind = torch.arange(length + slots, device=prompt.device) >= length
        return seen & (~behind | (own[:, :, None] == own[:, None]))

    def real(self) -> Tensor:
        """bool[B, T + S]: tokens of prompts and clues, no padding and no hidden word."""
        return torch.cat([self.mask.bool(), self.clues.number != NO_CLUE], dim=1)

    def positions(self) -> Tensor:
        """int64[B, T + S]: 0 at a prompt's first token; every clue behind it begins right after it."""
        ends = self.mask.sum(1, keepdim=True)
        return torch.cat([(self.mask.cumsum(1) - 1).clamp(min=0), ends + self.clues.place], dim=1)

    def to(self, device: Any, non_blocking: bool = False) -> Rows:
        """The same batch on another device."""
        return _map(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Rows:
        return _map(self, torch.Tensor.pin_memory)


def _map(part: T, change: Callable[[Tensor], Tensor]) -> T:
    """The dataclass `part` with every tensor in it changed."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = change(value)
        elif isinstance(value, Mapping):
            values[name] = {key: change(inner) for key, inner in value.items()}
        elif is_dataclass(value):
            values[name] = _map(value, change)
    return type(part)(**values)


def join_rows(
    examples: Sequence[Row], pad_id: int = 0, eos_id: int = 0, rank: RankWeight | None = None
) -> dict[str, Any]:
    """The fields of `Rows`; the padding is masked whatever `pad_id` is, `eos_id` ends the clues that follow their prompts.

    With `rank` their rewards are learned from too. All examples have clues behind them, or none has.
    """
    length = max(len(e.sample.tokens) for e in examples)
    tokens = np.full((len(examples), length), pad_id, np.int64)
    mask = np.zeros((len(examples), length), np.int64)
    labels = np.full((len(examples), length), IGNORED_LABEL, np.int64)
    for i, example in enumerate(examples):
        start = length - len(example.sample.tokens)
        tokens[i, start:] = example.sample.tokens
        mask[i, start:] = 1
        labels[i, start:] = example.sample.labels
    arrays = {"tokens": tokens, "mask": mask, "labels": labels}
    clues = _clues(examples, pad_id, eos_id, rank) if examples[0].clues else None
    return {name: torch.from_numpy(array) for name, array in arrays.items()} | {"clues": clues}


def _clues(examples: Sequence[Row], pad_id: int, eos_id: int, rank: RankWeight | None) -> Clues:
    """The clues of examples that have some, in the slots behind their prompts."""
    shape = len(examples), max(sum(len(clue.tokens) for clue in e.clues) for e in examples)
    tokens, targets = np.full(shape, pad_id, np.int64), np.full(shape, IGNORED_LABEL, np.int64)
    number, place = np.full(shape, NO_CLUE, np.int64), np.zeros(shape, np.int64)
    for row, example in enumerate(examples):
        start = 0
        for which, clue in enumerate(example.clues):
            slots = row, slice(start, start + len(clue.tokens))
            tokens[slots], targets[slots] = clue.tokens, (*clue.tokens[1:], eos_id)
            number[slots], place[slots] = which, np.arange(len(clue.tokens))
            start += len(clue.tokens)
    every = [clue for e in examples for clue in e.clues]
    owner = np.repeat(np.arange(len(examples)), [len(e.clues) for e in examples])
    first = np.array([clue.tokens[0] for clue in every], np.int64)
    learned = np.array([clue.learned for clue in every])
    reward = np.array([math.nan if clue.reward is None else clue.reward for clue in every], np.float32)
    arrays = tokens, number, place, targets, owner, first, learned
    rewards = {} if rank is None else {"reward": torch.from_numpy(reward), "rank": rank}
    return Clues(*map(torch.from_numpy, arrays), **rewards)
