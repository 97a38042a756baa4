"""Beam search whose steps stay on the device: the model, the index as tensors and the beams, queued one behind the other.

The same clues as `beam_search` with the same logits. The host waits once, for what is found, and before each token that ends a
word beyond `max_tokens`; in between it only launches, on CUDA one graph for each step. Knows no prompts' contents, no documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.device import DeviceConstraint
from gemkr.decoding.hypotheses import Finished, best_clues
from gemkr.decoding.logits import normalizer
from gemkr.decoding.queued import Glance, Recorded
from gemkr.decoding.tensor_beams import NONE, BeamRules, Clues
from gemkr.errors import ModelError
from gemkr.interfaces import BeamSlots, SlottedModel


def stays_on_device(settings: DecodingConfig) -> bool:
    """Whether no rule of these settings looks at one candidate after the other: those of heads and documents do."""
    return not (settings.group_by_head or settings.stop_at_one_document or settings.document_penalty)


@dataclass(frozen=True, slots=True)
class Search:
    """A search of one shape: the tensors that its steps read and write, the beams' `parents` int64[Q, B] among them."""

    slots: BeamSlots
    live: Clues
    parents: Tensor
    done: Clues
    broken: Tensor

    def put(self, live: Clues, parents: Tensor, done: Clues) -> None:
        """Overwrite what the next step reads."""
        held = [*self.live.parts(), self.parents, *self.done.parts()]
        for own, new in zip(held, [*live.parts(), parents, *done.parts()], strict=True):
            own.copy_(new)


class DeviceSearch:
    """Searches for batches of prompts of one model under one constraint; keeps the tensors, and the graphs, of batches of 1, 2, 4 ...
    prompts that were asked for. For settings that `stays_on_device` allows."""

    def __init__(
        self,
        model: SlottedModel,
        constraint: DeviceConstraint,
        settings: DecodingConfig,
        *,
        tail: int,
        record: bool = False,
    ) -> None:
        """A clue may take `tail` tokens more than `max_tokens` to end at a border; with `record` a step is recorded as a CUDA
        graph."""
        self.model, self.constraint, self.settings, self.record = model, constraint, settings, record
        self._most = settings.max_tokens + (tail if constraint.matcher.borders is not None else 0)
        self._rules = BeamRules(settings, self._most, model.device)
        self._width = settings.beam_size + settings.beam_size // settings.groups
        self._rooms: dict[int, tuple[Search, Recorded]] = {}

    @torch.inference_mode()
    def run(self, prompts: Sequence[Any]) -> list[list[Finished]]:
        """At most `beam_size` clues for each prompt, best first. Raises ModelError where logits are not numbers."""
        logits, state = self.model.prefill(prompts)
        search, step = self._room(state, len(prompts))
        search.slots.begin(state)
        self._begin(search, logits)
        glance = Glance(self.model.device)
        for _ in range(self.settings.max_tokens - 1):
            step()
            if glance.at(search.live.there.any()) is False:
                break
        self._end(search)
        return self._found(search, len(prompts))

    def _room(self, state: Any, prompts: int) -> tuple[Search, Recorded]:
        """The tensors of an earlier search of about as many prompts and its step, or new ones where the prompts do not fit."""
        queries = max(prompts, min(1 << (prompts - 1).bit_length(), self.settings.batch_size))
        search, step = self._rooms.get(queries, (None, None))
        if search is None or step is None or not search.slots.fits(state):
            self._rooms.pop(queries, None)
            device, beams = self.model.device, self.settings.beam_size
            shape = queries, beams, self._most
            live, done = Clues.none(*shape, device), Clues.none(*shape, device)
            parents = torch.zeros(queries, beams, dtype=torch.int64, device=device)
            broken = torch.zeros((), dtype=torch.bool, device=device)
            search = Search(self.model.slots(state, *shape), live, parents, done, broken)
            step = Recorded(partial(self._advance, search), device, record=self.record)
            self._rooms[queries] = search, step
        return search, step

    def _begin(self, search: Search, logits: Tensor) -> None:
        """The first token of each beam."""
        queries, beams, _ = search.live.tokens.shape
        scores, tokens, never, _ = self.constraint.first(logits, normalizer(logits), self._width)
        search.broken.copy_(scores.isnan().any())
        every = [
            _beams(part, queries, beams, value)
            for part, value in ((scores, NONE), (tokens, 0), (never, NONE))
        ]
        root = Clues.none(*search.live.tokens.shape, logits.device)
        root.total[: len(logits), :: self._rules.size] = 0.0
        root.hi.fill_(self.constraint.matcher.index.root.hi)
        empty = Clues.none(*search.done.tokens.shape, logits.device)
        live, parents, done = self._rules.advance(root, empty, *every, whole=root.there)
        search.put(self._extended(live), parents, done)

    def _advance(self, search: Search) -> None:
        """The model's step, and one token more for every beam."""
        live, parents, done = self._rules.advance(
            search.live, search.done, *self._candidates(search, self._width)
        )
        search.put(self._extended(live), parents, done)

    def _end(self, search: Search) -> None:
        """Finish the beams where they stand; let those inside a character or word go on to its end."""
        parents = torch.arange(self.settings.beam_size, device=search.parents.device).expand_as(
            search.parents
        )
        for length in range(self.settings.max_tokens, self._most + 1):
            spans = (part.flatten() for part in (search.live.lo, search.live.hi, search.live.last))
            whole = self.constraint.whole(*spans).view_as(search.parents)
            live, done = self._rules.close(search.live, search.done, whole)
            search.put(live, search.parents, done)
            if length == self._most or not bool(live.there.any()):
                break
            scores, tokens, *_ = self._candidates(search, 1)
            live = self._rules.go_on(live, done, scores[:, :, 0], tokens[:, :, 0])
            search.put(self._extended(live), parents, done)

    def _candidates(self, search: Search, k: int) -> list[Tensor]:
        """The model's step, and the parts of `Candidates` [Q, B, ...] behind it."""
        live, shape = search.live, search.parents.shape
        logits = search.slots.step(live.last, search.parents)
        spans = (part.flatten() for part in (live.lo, live.hi, live.last))
        found = self.constraint.following(logits, normalizer(logits), *spans, live.length[0, 0], k)
        search.broken.logical_or_(found[0].isnan().any() | found[2].isnan().any())
        return [part.view(*shape, *part.shape[1:]) for part in found]

    def _extended(self, live: Clues) -> Clues:
        """The beams with the spans of their last tokens."""
        lo, hi = self.constraint.index.extend(live.lo, live.hi, live.last)
        return replace(live, lo=lo, hi=hi)

    def _found(self, search: Search, prompts: int) -> list[list[Finished]]:
        """The finished clues of the prompts, on the host; all comes in one transfer."""
        done, longest = search.done, self._most
        numbers = torch.stack([done.length, done.lo, done.hi, search.broken.expand_as(done.lo).long()], dim=2)
        sums = torch.stack([done.log_prob, done.total], dim=2).view(torch.int64)
        packed = torch.cat([done.tokens, numbers, sums], dim=2)[:prompts].cpu().numpy()
        if packed[0, 0, longest + 3]:
            raise ModelError(
                "the model returned logits that are not numbers (NaN); check its weights and precision"
            )
        return [best_clues(_clues(each, longest, self.settings), self.settings.beam_size) for each in packed]


@dataclass(frozen=True, slots=True)
class OnDevice:
    """An index as tensors beside a model, and where the search itself can stay there, room for it."""

    constraint: DeviceConstraint
    search: DeviceSearch | None = None


def _clues(packed: np.ndarray, longest: int, settings: DecodingConfig) -> list[Finished]:
    """The clues of one query, out of int64[n, longest + 6]: tokens, length, lo, hi, a flag, and the bits of two sums."""
    sums = np.ascontiguousarray(packed[:, longest + 4 :]).view(np.float64)
    found = []
    for row, (log_prob, total) in zip(packed.tolist(), sums.tolist(), strict=True):
        if total > NONE:
            length, lo, hi = row[longest : longest + 3]
            score = total / length**settings.length_penalty
            found.append(Finished(tuple(row[:length]), log_prob, total, lo, hi, (), score=score))
    return found


def _beams(part: Tensor, queries: int, beams: int, value: float) -> Tensor:
    """[Q, B, ...]: what there is for each prompt [n, ...], for all of its beams; a value for prompts that are not there."""
    rest = part.new_full((queries - len(part), *part.shape[1:]), value)
    return torch.cat([part, rest])[:, None].expand(queries, beams, *part.shape[1:])
