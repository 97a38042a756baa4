"""Beams as branches in a cache of fixed size, for decoding whose steps all have one shape.

As `branches`, but every query has the same number of beams at each step, and a place in the cache for each beam and step from the
beginning. Choosing beams moves no key: a beam that goes on from another sees that one's places. A step reads and writes the same
tensors each time and waits for nothing, so that it can be captured in a CUDA graph. It costs what the longest clue costs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from gemkr.errors import ModelError
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.hf.llm import LLM, shallow_copy

ROUND = 64
"""Prompts get room for a multiple of so many tokens, so that few shapes serve all."""


class FixedLayer:
    """Keys and values of one layer, [Q, heads, prompt + places, width]; new ones are written to `places` int64[n]. A layer of a
    transformers cache."""

    is_sliding = is_compileable = False
    is_initialized = True

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor) -> None:
        self.keys, self.values, self._places = keys, values, places

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys.index_copy_(2, self._places, keys.to(self.keys.dtype))
        self.values.index_copy_(2, self._places, values.to(self.values.dtype))
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.keys.shape[2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[2], 0


class Slots:
    """The memory of `queries` prompts with `beams` beams each that take up to `steps` tokens."""

    def __init__(
        self,
        llm: LLM,
        state: BranchState,
        queries: int,
        beams: int,
        steps: int,
        within: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        """Room for prompts like those of `state`, which a model has read and `begin` takes over; `within` surrounds each step
        (autocast). Raises ModelError for `model.fused`, sliding windows, and rotary positions that are scaled as texts grow."""
        layers = getattr(state.cache, "layers", [])
        stretched = any("dynamic" in str(getattr(part, "rope_type", "")) for part in llm.body.modules())
        if (
            llm.fused
            or stretched
            or not layers
            or any(getattr(layer, "is_sliding", True) for layer in layers)
        ):
            raise ModelError(
                "decoding.engine device needs a model that keeps all keys, with positions of a fixed scale, read by transformers; set "
                "model.fused to false, or engine to host"
            )
        self.llm, self.beams, self._within = llm, beams, within
        device, slots = state.seen.device, beams * steps
        self.room = -(-state.prompt.shape[1] // ROUND) * ROUND
        self._prompt = torch.zeros(queries, self.room, dtype=torch.bool, device=device)
        self._seen = torch.zeros(queries, beams, slots, dtype=torch.bool, device=device)
        self._positions = torch.zeros(queries, 1, dtype=torch.int64, device=device)
        # how many tokens each beam was fed, and where the keys of the next ones go
        self._fed = torch.zeros((), dtype=torch.int64, device=device)
        self._places = torch.zeros(beams, dtype=torch.int64, device=device)
        self._beams = torch.arange(beams, device=device)
        self._slots = torch.arange(slots, device=device)
        self._real = torch.ones(queries, beams, dtype=torch.bool, device=device)
        self._cache = shallow_copy(state.cache)
        self._cache.layers = [
            FixedLayer(*(self._wide(part) for part in (layer.keys, layer.values)), self._places)
            for layer in layers
        ]

    def _wide(self, part: torch.Tensor) -> torch.Tensor:
        queries, _, slots = self._seen.shape
        return part.new_zeros(queries, part.shape[1], self.room + slots, part.shape[3])

    def fits(self, state: BranchState) -> bool:
        """Whether there is room for the prompts that `state` holds."""
        prompts, length = state.prompt.shape
        return prompts <= len(self._prompt) and length <= self.room

    def begin(self, state: BranchState) -> None:
        """Take over the prompts of `state`, one beam behind each; what was held before is gone. Copies their keys once."""
        prompts, length = state.prompt.shape
        rows, columns = slice(prompts), slice(self.room - length, self.room)
        for part in (self._prompt, self._seen, self._fed, self._positions):
            part.zero_()
        self._prompt[rows, columns] = state.prompt
        self._positions[rows, 0] = state.positions
        for own, layer in zip(self._cache.layers, state.cache.layers, strict=True):
            for held, read in ((own.keys, layer.keys), (own.values, layer.values)):
                held.zero_()
                held[rows, :, columns] = read

    @torch.no_grad()
    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Feed one token int64[Q, B] per beam, each behind the beam of the step before that `parents` int64[Q, B] names (before
        the first step: any): logits float32[Q * B, V]."""
        queries, beams = tokens.shape
        seen = self._seen.gather(1, parents[:, :, None].expand(-1, -1, self._seen.shape[2]))
        own = self._fed * beams + self._beams
        self._seen.copy_(seen | (self._slots == own[:, None]))
        self._places.copy_(own + self.room)
        visible = torch.cat([self._prompt[:, None].expand(-1, beams, -1), self._seen], dim=2)
        positions = (self._positions + self._fed).expand(queries, beams)
        with self._within():
            states, _ = self.llm.extend(self.llm.embed(tokens), visible, positions, self._real, self._cache)
            logits = self.llm.head(states.flatten(0, 1)).float()
        self._fed += 1
        return logits
