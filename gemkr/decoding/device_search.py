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
from gemkr.decoding.live_rows import LiveRows
from gemkr.decoding.logits import normalizer
from gemkr.decoding.queued import Glance, Recorded
from gemkr.decoding.tensor_beams import NONE, BeamRules, Clues
from gemkr.errors import ModelError
from gemkr.interfaces import BeamSlots, SlottedModel


def stays_on_device(settings: DecodingConfig) -> bool:
    """Whether no rule of these settings looks at one candidate after the other: those of heads and documents do."""
    return not (settings.group_by_head or settings.stop_at_one_document or settings.document_penalty)


@dataclass(frozen=True, slots=True)
class Room:
    """What the steps of searches of one shape read and write: beams, their `parents` int64[Q, B], finished clues, and whether a
    logit of a beam was no number, bool[]."""

    slots: BeamSlots
    live: Clues
    parents: Tensor
    done: Clues
    broken: Tensor

    @classmethod
    def of(cls, slots: BeamSlots, shape: tuple[int, int, int, int], device: torch.device) -> Room:
        """For Q queries with B beams of up to M tokens in S segments."""
        parents = torch.zeros(shape[:2], dtype=torch.int64, device=device)
        broken = torch.zeros((), dtype=torch.bool, device=device)
        return cls(slots, Clues.none(*shape, device), parents, Clues.none(*shape, device), broken)

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
        # candidates of a beam at each step, as many as on the host
        self._width = settings.beam_size + settings.beam_size // settings.groups
        self.steps = 0  # of the last search, the one to the first tokens included
        self._rooms: dict[int, tuple[Room, Recorded]] = {}

    @torch.inference_mode()
    def run(self, prompts: Sequence[Any]) -> list[list[Finished]]:
        """At most `beam_size` clues for each prompt, best first. Raises ModelError where logits are not numbers."""
        logits, state = self.model.prefill(prompts)
        room, step = self._room(state, len(prompts))
        room.slots.begin(state)
        self._begin(room, logits)
        glance, self.steps = Glance(self.model.device), 1
        for _ in range(self.settings.max_tokens - 1):
            step()
            self.steps += 1
            if glance.at(room.live.there.any()) is False:
                break
        self._end(room)
        return self._found(room, len(prompts))

    def _room(self, state: Any, prompts: int) -> tuple[Room, Recorded]:
        """The room of earlier searches for about as many prompts and its step, or new ones where these prompts do not fit."""
        queries = max(prompts, min(1 << (prompts - 1).bit_length(), self.settings.batch_size))
        if queries in self._rooms and not self._rooms[queries][0].slots.fits(state):
            del self._rooms[queries]
        if queries not in self._rooms:
            shape, device = (queries, self.settings.beam_size, self._most), self.model.device
            segments = self.constraint.index.shift.shape[1]
            room = Room.of(self.model.slots(state, *shape), (*shape, segments), device)
            self._rooms[queries] = room, Recorded(partial(self._advance, room), device, record=self.record)
        return self._rooms[queries]

    def _begin(self, room: Room, logits: Tensor) -> None:
        """The first token of each beam."""
        queries, beams, _ = room.live.tokens.shape
        scores, tokens, never, _ = self.constraint.first(logits, normalizer(logits), self._width)
        room.broken.copy_(scores.isnan().any())
        every = [
            _beams(part, queries, beams, value)
            for part, value in ((scores, NONE), (tokens, 0), (never, NONE))
        ]
        starts = self.constraint.index.starts
        root, empty = (Clues.none(*room.live.tokens.shape, len(starts) - 1, logits.device) for _ in range(2))
        root.total[: len(logits), :: self._rules.size] = 0.0
        root.lo.copy_(starts[:-1])
        root.hi.copy_(starts[1:])
        live, parents, done = self._rules.advance(root, empty, *every, whole=root.there)
        room.put(self._extended(live), parents, done)

    def _advance(self, room: Room) -> None:
        """The model's step, and one token more for every beam."""
        live, parents, done = self._rules.advance(room.live, room.done, *self._candidates(room, self._width))
        room.put(self._extended(live), parents, done)

    def _end(self, room: Room) -> None:
        """Finish the beams where they stand; let those inside a character or word go on to its end."""
        parents = torch.arange(self.settings.beam_size, device=room.parents.device).expand_as(room.parents)
        for length in range(self.settings.max_tokens, self._most + 1):
            ranges = (part.flatten(0, 1) for part in (room.live.lo, room.live.hi, room.live.last))
            whole = self.constraint.whole(*ranges).view_as(room.parents)
            live, done = self._rules.close(room.live, room.done, whole)
            room.put(live, room.parents, done)
            if length == self._most or not bool(live.there.any()):
                break
            scores, tokens, *_ = self._candidates(room, 1)
            live = self._rules.go_on(live, done, scores[:, :, 0], tokens[:, :, 0])
            room.put(self._extended(live), parents, done)

    def _candidates(self, room: Room, k: int) -> list[Tensor]:
        """The model's step, and the parts of `Candidates` [Q, B, ...] behind it."""
        live, shape = room.live, room.parents.shape
        logits = room.slots.step(live.last, room.parents)
        ranges = (part.flatten(0, 1) for part in (live.lo, live.hi, live.last))
        found = self.constraint.following(logits, normalizer(logits), *ranges, live.length[0, 0], k)
        nan = found[0].isnan().any(dim=1) | found[2].isnan()
        room.broken.logical_or_((nan.view(shape) & live.there).any())
        return [part.view(*shape, *part.shape[1:]) for part in found]

    def _extended(self, live: Clues) -> Clues:
        """The beams with the ranges of their last tokens."""
        lo, hi = self.constraint.index.extend(live.lo, live.hi, live.last)
        return replace(live, lo=lo, hi=hi)

    def _found(self, room: Room, prompts: int) -> list[list[Finished]]:
        """The finished clues of the prompts, on the host; all comes in one transfer."""
        done = room.done
        numbers = torch.stack([room.broken.expand_as(done.length).long(), done.length], dim=2)
        sums = torch.stack([done.log_prob, done.total], dim=2).view(torch.int64)
        packed = torch.cat([sums, numbers, done.lo, done.hi, done.tokens], dim=2)[:prompts].cpu().numpy()
        if packed[0, 0, 2]:
            raise ModelError(
                "the model returned logits that are not numbers (NaN); check its weights and precision"
            )
        clues = _clues(packed, self.constraint.index.rows, self.settings)
        return [best_clues(found, self.settings.beam_size) for found in clues]


@dataclass(frozen=True, slots=True)
class OnDevice:
    """An index as tensors beside a model, and where the search itself can stay there, room for it."""

    constraint: DeviceConstraint
    search: DeviceSearch | None = None


def _clues(packed: np.ndarray, rows: LiveRows, settings: DecodingConfig) -> list[list[Finished]]:
    """The clues of each query, out of int64[Q, n, 4 + 2 S + M]: the bits of two sums, a flag, length, lo, hi, tokens."""
    segments = len(rows.starts) - 1
    there = np.ascontiguousarray(packed[:, :, 1]).view(np.float64) > NONE
    kept, queries = packed[there], np.nonzero(there)[0].tolist()
    log_probs, totals = np.ascontiguousarray(kept[:, :2]).view(np.float64).T.tolist()
    ranges = np.moveaxis(kept[:, 4 : 4 + 2 * segments].reshape(-1, 2, segments), 1, 0)
    clues = [
        tuple(tokens[:length])
        for length, tokens in zip(kept[:, 3], kept[:, 4 + 2 * segments :].tolist(), strict=True)
    ]
    spans = rows.spans(ranges, clues).T.tolist()
    found: list[list[Finished]] = [[] for _ in packed]
    for query, tokens, log_prob, total, span in zip(queries, clues, log_probs, totals, spans, strict=True):
        score = total / len(tokens) ** settings.length_penalty
        found[query].append(Finished(tokens, log_prob, total, *span, (), score=score))
    return found


def _beams(part: Tensor, queries: int, beams: int, value: float) -> Tensor:
    """[Q, B, ...]: what there is for each prompt [n, ...], for all of its beams; a value for prompts that are not there."""
    rest = part.new_full((queries - len(part), *part.shape[1:]), value)
    return torch.cat([part, rest])[:, None].expand(queries, beams, *part.shape[1:])
