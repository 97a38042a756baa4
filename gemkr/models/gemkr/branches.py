"""Beams as branches behind one prompt: its keys and values are read, never copied, by all of its beams.

A step feeds the beams of a query side by side, as one short sequence; a mask lets each see the prompt and its own
ancestors only. Selecting beams is index arithmetic on the host, so that a step never waits for its device. Needs a LLaMA-like model: logits are a linear head on the last
hidden states. Knows nothing of pictures, clues or indexes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gemkr.models.hf.llm import LLM, CacheState, shallow_copy

SPARSE = 0.5
"""Prompts without a live beam leave the cache when less than this share of its rows is in use."""


@dataclass(frozen=True, slots=True)
class BranchState:
    """The memory of B beams over Q prompts.

    `cache` holds keys and values of Q rows: T prompt positions (`prompt` bool[Q, T], False = padding), then S slots, one
    per token fed behind this prompt. `owner` int64[B], on the host: a beam's prompt; `seen` bool[B, S]: the slots of its own tokens;
    `positions` int64[B]: its next position.
    """

    cache: Any
    prompt: torch.Tensor
    owner: np.ndarray
    seen: torch.Tensor
    positions: torch.Tensor

    @classmethod
    def root(cls, state: CacheState) -> BranchState:
        """One beam behind each row of a prefilled state."""
        rows = len(state.mask)
        seen = torch.zeros(rows, 0, dtype=torch.bool, device=state.mask.device)
        return cls(state.cache, state.mask.bool(), np.arange(rows), seen, state.positions)

    def select(self, rows: torch.Tensor) -> BranchState:
        """Beams `rows` (int64[B'], on the host; repeats and drops allowed); the old state stays valid.

        Copies keys and values only to drop prompts that no beam needs any more, and then only when they are the
        larger part of the cache.
        """
        rows = torch.as_tensor(rows, dtype=torch.int64, device="cpu")
        owner, rows = self.owner[rows.numpy()], rows.to(self.seen.device, non_blocking=True)
        seen, positions = self.seen[rows], self.positions[rows]
        used, places = np.unique(owner, return_inverse=True)
        if len(used) >= SPARSE * len(self.prompt):
            return BranchState(self.cache, self.prompt, owner, seen, positions)
        kept = torch.from_numpy(used).to(seen.device, non_blocking=True)
        cache = shallow_copy(self.cache)
        for layer in cache.layers:
            layer.reorder_cache(kept)
        return BranchState(cache, self.prompt[kept], places, seen, positions)


def step(llm: LLM, tokens: torch.Tensor, state: BranchState) -> tuple[torch.Tensor, BranchState]:
    """Feed int64[B], one token per beam: logits float32[B, V] and the new state; the old one stays valid."""
    device, prompts, length = tokens.device, len(state.prompt), state.prompt.shape[1]
    order = np.argsort(state.owner, kind="stable")
    counts = np.bincount(state.owner, minlength=prompts)
    columns = np.empty_like(order)
    columns[order] = np.arange(len(order)) - (counts.cumsum() - counts)[state.owner[order]]
    width, slots = int(counts.max()), state.seen.shape[1]
    owner, column = torch.from_numpy(np.stack([state.owner, columns])).to(device, non_blocking=True)

    grid = torch.zeros(prompts, width, dtype=torch.int64, device=device)
    places = torch.zeros_like(grid)
    grid[owner, column] = tokens
    places[owner, column] = state.positions
    alone = torch.eye(width, dtype=torch.bool, device=device)
    own = alone[column]
    seen = torch.cat([state.seen, own], dim=1)
    visible = torch.zeros(prompts, width, length + slots + width, dtype=torch.bool, device=device)
    visible[:, :, length + slots :] = alone
    visible[owner, column] = torch.cat([state.prompt[owner], seen], dim=1)

    real = torch.zeros(prompts, width, dtype=torch.bool, device=device)
    real[owner, column] = True
    states, cache = llm.extend(llm.embed(grid), visible, places, real, shallow_copy(state.cache))
    logits = llm.head(states[owner, column]).float()
    return logits, BranchState(cache, state.prompt, state.owner, seen, state.positions + 1)
