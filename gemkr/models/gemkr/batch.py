"""A batch: everything the model reads of several queries, the clues that it is to learn, and the rewards of judged ones.

Knows no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gemkr.models.gemkr.inputs import Example, RegionInput
from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.models.gemkr.rows import RankWeight, Rows, join_rows


@dataclass(slots=True, kw_only=True)
class Batch(Rows):
    """B examples, left-padded to T tokens; P of them have a picture, V visual tokens stand in the slots.

    `pixels` float32[P, 3, H, W] or None;
    features float16[P, R, width], counts int64[P], boxes float32[P, R, 4]; `region_order` int64[P, R], real regions
    first, in reading order; `slots` int64[V, 4]: batch row, position, picture (0..P-1), and visual token of the
    picture: w for whole-picture token w, whole + i for the i-th region in reading order. The text encoder reads
    `text` int64[B, E], right-padded, `text_mask` int64[B, E]; `text_slots` int64[N, 3]: batch row, position, state.
    """

    pixels: Tensor | None
    features: Tensor | None
    counts: Tensor
    boxes: Tensor | None
    region_order: Tensor | None
    slots: Tensor
    text: Tensor | None = None
    text_mask: Tensor | None = None
    text_slots: Tensor | None = None


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
    rows = join_rows(examples, pad_id, eos_id, rank)
    length = rows["tokens"].shape[1]
    slots: list[np.ndarray] = []
    seen = [i for i, e in enumerate(examples) if e.regions is not None]
    for picture, i in enumerate(seen):
        sample = examples[i].sample
        n, start = len(sample.visual), length - len(sample.tokens)
        columns = (np.full(n, i), sample.visual + start, np.full(n, picture), np.arange(n))
        slots.append(np.stack(columns, axis=1))
    pictures = [examples[i].regions for i in seen]
    return Batch(
        **rows,
        pixels=_stack([examples[i].pixels for i in seen]),
        features=_stack([torch.from_numpy(p.features) for p in pictures]),
        counts=torch.tensor([len(p.order) for p in pictures], dtype=torch.int64),
        boxes=_stack([torch.from_numpy(p.boxes) for p in pictures]),
        region_order=_stack([torch.from_numpy(_all_rows(p)) for p in pictures]),
        slots=torch.from_numpy(np.concatenate(slots) if slots else np.zeros((0, 4), np.int64)),
        **_read_text(examples, length),
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


def _all_rows(regions: RegionInput) -> np.ndarray:
    """int64[R]: the real regions in reading order, then the padding rows."""
    return np.concatenate([regions.order, np.arange(len(regions.order), len(regions.features))])


def _stack(tensors: list[Tensor | None]) -> Tensor | None:
    return torch.stack(tensors) if tensors and tensors[0] is not None else None
