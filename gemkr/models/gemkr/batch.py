"""A batch: everything the model reads of several queries, the clues that it is to learn, and the rewards of judged ones.

A clue to learn stands in its prompt's own row, or several follow one prompt side by side under a mask: then the query is read
once, and the loss is exactly that of a row for each clue, at a fraction of the cost, because prompts are long and clues are
short. Knows no weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gemkr.models.gemkr.inputs import Example, RegionInput
from gemkr.models.gemkr.prompt import IGNORED_LABEL

NO_CLUE = -1
"""The clue number of padding."""

T = TypeVar("T")


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


@dataclass(slots=True)
class Batch:
    """B examples, left-padded to T tokens; P of them have a picture, V visual tokens stand in the slots.

    tokens, mask, labels int64[B, T]; pixels float32[P, 3, H, W] or None;
    features float16[P, R, width], counts int64[P], boxes float32[P, R, 4]; `region_order` int64[P, R], real regions
    first, in reading order; `slots` int64[V, 4]: batch row, position, picture (0..P-1), and visual token of the
    picture: w for whole-picture token w, whole + i for the i-th region in reading order. The text encoder reads
    `text` int64[B, E], right-padded, `text_mask` int64[B, E]; `text_slots` int64[N, 3]: batch row, position, state.
    """

    tokens: Tensor
    mask: Tensor
    labels: Tensor
    pixels: Tensor | None
    features: Tensor | None
    counts: Tensor
    boxes: Tensor | None
    region_order: Tensor | None
    slots: Tensor
    text: Tensor | None = None
    text_mask: Tensor | None = None
    text_slots: Tensor | None = None
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

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return _map(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return _map(self, torch.Tensor.pin_memory)


def _map(part: T, change: Callable[[Tensor], Tensor]) -> T:
    """The dataclass `part` with every tensor in it changed."""
    values = {field.name: getattr(part, field.name) for field in fields(part)}
    for name, value in values.items():
        if isinstance(value, Tensor):
            values[name] = change(value)
        elif is_dataclass(value):
            values[name] = _map(value, change)
    return type(part)(**values)


def hide_words(batch: Batch, share: float) -> Batch:
    """The batch without some tokens of its prompts; never their last ones, nor visual tokens or states of read text.

    Each prompt loses a share drawn evenly from [0, 2 * share), so that whole and sparse ones are both seen.
    """
    prompt = batch.labels == IGNORED_LABEL
    hidable = prompt & F.pad(prompt[:, 1:], (0, 1), value=False)
    for slots in (batch.slots, batch.text_slots):
        if slots is not None:
            hidable[slots[:, 0], slots[:, 1]] = False
    rates = 2 * share * torch.rand(len(prompt), 1, device=prompt.device)
    hidden = hidable & (torch.rand(prompt.shape, device=prompt.device) < rates)
    return replace(batch, mask=batch.mask * ~hidden)


def collate(
    examples: Sequence[Example], pad_id: int = 0, eos_id: int = 0, *, rank: RankWeight | None = None
) -> Batch:
    """One batch of examples, in their order; the padding is masked whatever `pad_id` is, `eos_id` ends the clues that
    follow their prompts.

    With `rank` their rewards are learned from too. All examples have clues behind them, or none has.
    """
    length = max(len(e.sample.tokens) for e in examples)
    tokens = np.full((len(examples), length), pad_id, np.int64)
    mask = np.zeros((len(examples), length), np.int64)
    labels = np.full((len(examples), length), IGNORED_LABEL, np.int64)
    slots: list[np.ndarray] = []
    seen = [i for i, e in enumerate(examples) if e.regions is not None]
    for i, example in enumerate(examples):
        sample = example.sample
        start = length - len(sample.tokens)
        tokens[i, start:] = sample.tokens
        mask[i, start:] = 1
        labels[i, start:] = sample.labels
        if example.regions is not None:
            n = len(sample.visual)
            picture = seen.index(i)
            columns = (np.full(n, i), sample.visual + start, np.full(n, picture), np.arange(n))
            slots.append(np.stack(columns, axis=1))
    pictures = [examples[i].regions for i in seen]
    return Batch(
        tokens=torch.from_numpy(tokens),
        mask=torch.from_numpy(mask),
        labels=torch.from_numpy(labels),
        pixels=_stack([examples[i].pixels for i in seen]),
        features=_stack([torch.from_numpy(p.features) for p in pictures]),
        counts=torch.tensor([len(p.order) for p in pictures], dtype=torch.int64),
        boxes=_stack([torch.from_numpy(p.boxes) for p in pictures]),
        region_order=_stack([torch.from_numpy(_all_rows(p)) for p in pictures]),
        slots=torch.from_numpy(np.concatenate(slots) if slots else np.zeros((0, 4), np.int64)),
        **_read_text(examples, length),
        clues=_clues(examples, pad_id, eos_id, rank) if examples[0].clues else None,
    )


def _read_text(examples: Sequence[Example], length: int) -> dict[str, Tensor]:
    """The fields of a batch of `length` tokens that a text encoder reads and fills; none without one."""
    if examples[0].text is None:
        return {}
    shape = len(examples), max(len(e.text) for e in examples)
    text, mask, slots = np.zeros(shape, np.int64), np.zeros(shape, np.int64), []
    for i, example in enumerate(examples):
        n = len(example.text)
        text[i, :n], mask[i, :n] = example.text, 1
        positions = example.sample.read + length - len(example.sample.tokens)
        slots.append(np.stack([np.full(n, i), positions, np.arange(n)], axis=1))
    arrays = {"text": text, "text_mask": mask, "text_slots": np.concatenate(slots)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _clues(examples: Sequence[Example], pad_id: int, eos_id: int, rank: RankWeight | None) -> Clues:
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


def _all_rows(regions: RegionInput) -> np.ndarray:
    """int64[R]: the real regions in reading order, then the padding rows."""
    return np.concatenate([regions.order, np.arange(len(regions.order), len(regions.features))])


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    return torch.stack(tensors) if tensors and tensors[0] is not None else None
