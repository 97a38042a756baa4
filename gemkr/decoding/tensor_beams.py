"""The beams of a batch as tensors, and how they advance by one token: what `QuerySearch` does with groups and diversity.

Every shape is fixed and nothing is read on the host, so that a step can be queued behind the model's, or captured in a CUDA graph.
It knows no model and no index. Heads and documents of clues, whose rules look at one candidate after the other, are not for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from gemkr.decoding.config import DecodingConfig

NONE = -torch.inf


@dataclass(frozen=True, slots=True)
class Clues:
    """Room for n clues of M tokens for each of Q queries; a place whose `total` is -inf holds none.

    `tokens` int64[Q, n, M], `length` int64[Q, n]; `log_prob` and `total` (less the diversity's penalties) float64[Q, n]; ranges
    of rows in each of S segments `lo`, `hi` int64[Q, n, S].
    """

    tokens: Tensor
    length: Tensor
    log_prob: Tensor
    total: Tensor
    lo: Tensor
    hi: Tensor

    @classmethod
    def none(cls, queries: int, n: int, longest: int, segments: int, device: torch.device) -> Clues:
        """All places empty, with room for `longest` tokens."""
        length = torch.zeros(queries, n, dtype=torch.int64, device=device)
        sums = torch.zeros(queries, n, dtype=torch.float64, device=device)
        tokens = torch.zeros(queries, n, longest, dtype=torch.int64, device=device)
        lo, hi = torch.zeros(2, queries, n, segments, dtype=torch.int64, device=device)
        return cls(tokens, length, sums, torch.full_like(sums, NONE), lo, hi)

    def parts(self) -> list[Tensor]:
        """All tensors, in the order of the fields."""
        return [getattr(self, field.name) for field in fields(self)]

    def take(self, places: Tensor) -> Clues:
        """The clues at `places` int64[Q, m] of each query."""
        return self._each(lambda part: _rows(part, places))

    def columns(self, start: int, stop: int) -> Clues:
        """The clues [start, stop) of each query."""
        return self._each(lambda part: part[:, start:stop])

    def only(self, kept: Tensor) -> Clues:
        """Those that bool[Q, n] marks."""
        return replace(self, total=torch.where(kept, self.total, NONE))

    def longer(self, tokens: Tensor, log_probs: Tensor, totals: Tensor) -> Clues:
        """Each with one more token, int64[Q, n], its log-probability, and the new total; ranges stay."""
        place = torch.arange(self.tokens.shape[2], device=tokens.device) == self.length[:, :, None]
        grown = torch.where(place, tokens[:, :, None], self.tokens)
        return Clues(grown, self.length + 1, self.log_prob + log_probs, totals, self.lo, self.hi)

    @property
    def there(self) -> Tensor:
        """bool[Q, n]"""
        return self.total > NONE

    @property
    def last(self) -> Tensor:
        """int64[Q, n]: last tokens; 0 where there is none."""
        place = (self.length - 1).clamp(min=0)
        return torch.where(self.length > 0, self.tokens.gather(2, place[:, :, None])[:, :, 0], 0)

    def _each(self, work) -> Clues:
        return Clues(*map(work, self.parts()))


def joined(parts: Sequence[Clues]) -> Clues:
    """The clues of all parts, side by side."""
    return Clues(*(torch.cat(each, dim=1) for each in zip(*(part.parts() for part in parts), strict=True)))


class BeamRules:
    """Group beam search with Hamming diversity over `Clues`: live beams [Q, groups * size], and as many finished clues, those of
    each group together and best first."""

    def __init__(self, settings: DecodingConfig, longest: int, device: torch.device) -> None:
        """Clues have at most `longest` tokens."""
        self.settings, self.size = settings, settings.beam_size // settings.groups
        lengths = [1.0, *(n**settings.length_penalty for n in range(1, longest + 1))]
        self._divisors = torch.tensor(lengths, dtype=torch.float64, device=device)
        # int64[1] each, as a tensor without axes would be fetched where it is an index
        self._longest = torch.tensor([longest], device=device)
        self._most = torch.tensor([settings.max_tokens], device=device)

    def advance(
        self, live: Clues, done: Clues, scores: Tensor, tokens: Tensor, end: Tensor, whole: Tensor
    ) -> tuple[Clues, Tensor, Clues]:
        """One token more: the new beams, their ranges still those of their parents, the parents int64[Q, B], and what is finished.

        `scores` float32[Q, B, k], best first, and `tokens` int64[Q, B, k] are the candidates of each beam, `end` float32[Q, B] the
        log-probability that it ends here, `whole` bool[Q, B] whether it may be finished where nothing follows.
        """
        dead = scores[:, :, 0].isneginf()
        stands = dead & whole & (live.length > 0)
        gains = torch.cat([scores, torch.where(dead, NONE, end)[:, :, None]], dim=2).double()
        chosen = tokens.new_empty(len(tokens), 0)
        beams, parents, pools = [], [], []
        for start in range(0, self.settings.beam_size, self.size):
            places = slice(start, start + self.size)
            group = live.columns(start, start + self.size)
            pool = self.merged(done.columns(start, start + self.size), group.only(stands[:, places]))
            new, parent, pool, taken = self._group(group, pool, gains[:, places], tokens[:, places], chosen)
            chosen = torch.cat([chosen, taken], dim=1)
            beams.append(new)
            parents.append(parent + start)
            pools.append(pool)
        return joined(beams), torch.cat(parents, dim=1), joined(pools)

    def merged(self, pool: Clues, found: Clues) -> Clues:
        """The best clues of both, as many as `pool` has places; of equal ones those of `pool` first, then the earlier ones."""
        both = joined([pool, found])
        order = self.score(both.total, both.length).sort(dim=1, descending=True, stable=True).indices
        return both.take(order[:, : pool.total.shape[1]])

    def close(self, live: Clues, done: Clues, whole: Tensor) -> tuple[Clues, Clues]:
        """Finish the beams that bool[Q, B] marks; the others stay."""
        pools = [
            self.merged(
                done.columns(start, start + self.size),
                live.columns(start, start + self.size).only(whole[:, start : start + self.size]),
            )
            for start in range(0, self.settings.beam_size, self.size)
        ]
        return live.only(~whole), joined(pools)

    def go_on(self, live: Clues, done: Clues, scores: Tensor, tokens: Tensor) -> Clues:
        """Each beam with its best token, int64[Q, B], less those that nothing may follow, or that cannot win any more."""
        gains = scores.double()
        new = live.longer(tokens, gains, live.total + gains)
        groups = len(scores), self.settings.groups, self.size
        worst = self._worst(done).view(groups)[:, :, -1:].expand(groups).reshape(scores.shape)
        return new.only(self._attainable(new, self._longest) > worst)

    def score(self, total: Tensor, length: Tensor) -> Tensor:
        """float64, as `Pool.normalized`; -inf of no clue."""
        return total / self._divisors[length]

    def _group(
        self, group: Clues, pool: Clues, gains: Tensor, tokens: Tensor, chosen: Tensor
    ) -> tuple[Clues, Tensor, Clues, Tensor]:
        """The new beams of a group, their parents in it, its pool, and the tokens that it chose (-1 for none)."""
        size, k = self.size, tokens.shape[2]
        totals = gains + group.total[:, :, None]
        if self.settings.diversity and chosen.shape[1]:
            repeats = (tokens[:, :, :, None] == chosen[:, None, None, :]).sum(dim=3)
            penalty = torch.cat([repeats, torch.zeros_like(repeats[:, :, :1])], dim=2)
            totals = totals - self.settings.diversity * penalty.double()
        best, order = totals.flatten(1).sort(dim=1, descending=True, stable=True)
        best, order = best[:, : 2 * size], order[:, : 2 * size]
        parents, columns = torch.div(order, k + 1, rounding_mode="floor"), order % (k + 1)
        gains, there = gains.flatten(1).gather(1, order), best > NONE
        ends = there & (columns == k)
        rank = torch.arange(best.shape[1], device=best.device)
        ended = group.take(parents)
        ended = replace(ended, log_prob=ended.log_prob + gains, total=best)
        pool = self.merged(pool, ended.only(ends & (rank < size)))
        goes_on = there & (columns < k)
        first = (~goes_on).to(torch.int8).sort(dim=1, stable=True).indices[:, :size]
        kept, parent = goes_on.gather(1, first), parents.gather(1, first)
        token = tokens.flatten(1).gather(1, parent * k + columns.gather(1, first).clamp(max=k - 1))
        total = torch.where(kept, best.gather(1, first), NONE)
        new = group.take(parent).longer(torch.where(kept, token, 0), gains.gather(1, first), total)
        return self._worth_keeping(new, pool, best[:, :1]), parent, pool, torch.where(kept, token, -1)

    def _worth_keeping(self, new: Clues, pool: Clues, best: Tensor) -> Clues:
        """No beam once the group is done by the published rule; without diversity, none that cannot win."""
        worst, length = self._worst(pool)[:, -1:], new.length[:, :1]
        over = (worst > NONE) & (worst >= self.score(best, length))
        kept = ~over.expand_as(new.total)
        if not (self.settings.diversity and self.settings.groups > 1):
            kept = kept & (self._attainable(new, self._most) > worst)
        return new.only(kept)

    def _attainable(self, clues: Clues, most: Tensor) -> Tensor:
        """float64, as `Pool.attainable`."""
        return self.score(clues.total, most if self.settings.length_penalty > 0 else clues.length)

    def _worst(self, pool: Clues) -> Tensor:
        return self.score(pool.total, pool.length)


def _rows(part: Tensor, places: Tensor) -> Tensor:
    """part[q, places[q]] of [Q, n] or [Q, n, M]."""
    if part.dim() == 3:
        places = places[:, :, None].expand(*places.shape, part.shape[2])
    return part.gather(1, places)
