"""The index as plain tensors on the model's device: allowed tokens, and longer clues, without the host.

Built once from any `TokenIndex` of rows or of segments of rows; then every operation has fixed shapes and waits for nothing, so it
can be captured in a CUDA graph. It gives the same sets as the index it was built from. It knows nothing of beams and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import torch

from gemkr.decoding import logits as choose
from gemkr.decoding.live_rows import LiveRows
from gemkr.decoding.logits import Candidates
from gemkr.decoding.matcher import ClueMatcher
from gemkr.interfaces import TokenIndex
from gemkr.text.borders import WORD


@dataclass(frozen=True, slots=True)
class DeviceIndex:
    """The live rows of an index as tensors; n rows in S segments, vocabulary V, blocks of `block` rows.

    A clue stands in a range of rows in each segment, lo and hi int64[..., S], an empty one where it does not occur; all work on all
    segments at once, so their number changes shapes but not operations. `rows`: the numbering; `starts` int64[S + 1]: where segments
    begin, and n. `follow` int32[n + 1]: the token that follows each row, V where the document ends and last. `ends` int64: the rows
    at which documents end. `tables` uint8[levels, blocks, V / 8]: bit t of [j, b] = token t follows one of
    the rows of the 2**j blocks from b on, so that any run of whole blocks is the union of two entries. `places` int64[n]: the rows
    sorted by the token that follows and by number, as token * n + row; `shift` int64[V, S]: how far the first row of a segment's
    clues that begin the reversed text with a token lies behind the first of its places there. `bits` bool[256, 8]: the bits of a
    byte, lowest first.

    Memory: 12 bytes a row and V / 8 bytes a block and level: 0.65 GB for 17 million tokens, V = 32,000 and
    blocks of 2,048.
    """

    vocab_size: int
    block: int
    rows: LiveRows
    starts: torch.Tensor
    follow: torch.Tensor
    ends: torch.Tensor
    tables: torch.Tensor
    places: torch.Tensor
    shift: torch.Tensor
    bits: torch.Tensor

    @classmethod
    def build(cls, index: TokenIndex, device: torch.device | str, *, block: int = 2048) -> DeviceIndex:
        """Read every row of `index` once and put the tensors on `device`; about a second per million rows. Raises DecodingError as
        `LiveRows.read`."""
        vocab = index.vocab_size
        live, after, first = LiveRows.read(index)
        follow = np.append(after, np.int32(vocab))
        ends, n = np.flatnonzero(after == vocab), len(after)
        starts, follow, ends, shift = (
            torch.from_numpy(array).to(device) for array in (live.starts, follow, ends, first)
        )
        places = (follow[:-1].long() * n + torch.arange(n, device=device)).sort().values
        begun = torch.arange(vocab, device=device)[:, None] * n + starts[:-1]
        shift -= torch.searchsorted(places, begun)
        tables = _tables(follow, vocab, block)
        return cls(vocab, block, live, starts, follow, ends, tables, places, shift, _bits().to(device))

    def to(self, device: torch.device | str) -> DeviceIndex:
        """The same index on another device."""
        names = ("starts", "follow", "ends", "tables", "places", "shift", "bits")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def ranges(self, lo: np.ndarray, hi: np.ndarray) -> torch.Tensor:
        """int64[2, n, S]: the ranges lo and hi of spans of the index that this was built from, int64[n] each."""
        return choose.sent(self.rows.ranges(lo, hi), self.follow.device)

    def extend(
        self, lo: torch.Tensor, hi: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one token, int64[...], to each clue; ranges int64[..., S] in and out. A binary search over all rows for each side and
        segment."""
        base, shift = (tokens * (len(self.follow) - 1)).unsqueeze(-1), self.shift[tokens]
        lo, hi = (torch.searchsorted(self.places, base + side) + shift for side in (lo, hi))
        return lo, hi

    def at_end(self, lo: torch.Tensor, hi: torch.Tensor) -> torch.Tensor:
        """bool[n]: whether an occurrence of each clue, ranges int64[n, S], stands at the end of a document."""
        return (torch.searchsorted(self.ends, hi) > torch.searchsorted(self.ends, lo)).any(dim=1)

    def mask(self, lo: torch.Tensor, hi: torch.Tensor) -> torch.Tensor:
        """bool[n, V]: the tokens that may follow each clue, ranges int64[n, S].

        Whole blocks inside a range come from two table entries, the up to 2 x `block` rows at its ends one
        by one: O(V / 32 + block) reads a range, whatever its count; an empty one reads the same few places again and again.
        """
        block, device = self.block, lo.device
        first, last = (
            torch.div(lo + block - 1, block, rounding_mode="floor"),
            torch.div(hi, block, rounding_mode="floor"),
        )
        inner = last > first
        left_stop = torch.where(inner, first * block, hi).unsqueeze(2)
        right_start = torch.where(inner, last * block, hi).unsqueeze(2)
        steps = torch.arange(2 * block, device=device)
        left = lo.unsqueeze(2) + steps
        nowhere = len(self.follow) - 1
        left = torch.where(left < left_stop, left, nowhere)
        right = right_start + steps[:block]
        right = torch.where(right < hi.unsqueeze(2), right, nowhere)
        edges = torch.cat([left, right], dim=2).flatten(1)
        found = torch.zeros(len(lo), self.vocab_size + 1, dtype=torch.bool, device=device)
        found.scatter_(1, self.follow[edges].long(), True)
        return found[:, : self.vocab_size] | self._inner(first, last, inner)

    def _inner(self, first: torch.Tensor, last: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        """bool[n, V]: the tokens of whole blocks [first, last) where `inner`, nothing elsewhere; all int64 or bool[n, S]."""
        width = torch.where(inner, last - first, 1)
        level = (
            torch.frexp(width.double()).exponent.long() - 1
        )  # the longest runs that are no longer than this one
        end = last - torch.bitwise_left_shift(1, level)
        begin, end = torch.where(inner, first, 0), torch.where(inner, end, 0)
        runs = torch.where(inner.unsqueeze(2), self.tables[level, begin] | self.tables[level, end], 0)
        whole = reduce(torch.bitwise_or, runs.unbind(1))
        return self.bits[whole.long()].flatten(1)[:, : self.vocab_size]


class DeviceConstraint:
    """`IndexConstraint` with the sets computed on the device; the same candidates, the same clues.

    `matcher` supplies the rules (word starts, end tokens, lengths, borders), and the spans, documents and ends at
    `max_tokens`, which the search needs on the host: there an extension is sooner had than waited for.
    """

    def __init__(self, index: DeviceIndex, matcher: ClueMatcher, eos_token_ids: Sequence[int]) -> None:
        self.index = index
        self.matcher = matcher
        self.eos_token_ids = tuple(eos_token_ids)
        self.device = index.follow.device
        self._first = torch.from_numpy(matcher.first_tokens).to(self.device)
        usable = np.ones(index.vocab_size, dtype=bool)
        usable[matcher.banned] = False
        self._usable = torch.from_numpy(usable).to(self.device)
        self._eos = torch.tensor(self.eos_token_ids, dtype=torch.int64, device=self.device)
        self.start, self.extend = matcher.start, matcher.extend
        self.only_document, self.endings = matcher.only_document, matcher.endings
        borders = matcher.borders
        if borders is not None:
            self._border_first = torch.from_numpy(borders.first[: index.vocab_size]).to(self.device)
            self._border_last = torch.from_numpy(borders.last).to(self.device)

    def candidates(
        self,
        logits: torch.Tensor,
        norm: torch.Tensor,
        lo: np.ndarray,
        hi: np.ndarray,
        last: np.ndarray,
        length: int,
        k: int,
    ) -> Candidates:
        """As `IndexConstraint.candidates`; waits for the device once, at the end."""
        if length == 0:
            found = self.first(logits, norm, k)
        else:
            ranges = self.index.ranges(lo, hi)
            found = self.following(logits, norm, *ranges, choose.sent(last, self.device), length, k)
        return choose.candidates(*choose.fetched(*found))

    def first(self, logits: torch.Tensor, norm: torch.Tensor, k: int) -> tuple[torch.Tensor, ...]:
        """What `following` gives for clues without a token."""
        never = torch.full_like(norm, -torch.inf)
        scores, tokens = choose.top_shared(logits, norm, self._first, k)
        return scores, tokens, never, torch.zeros_like(never, dtype=torch.bool)

    def following(
        self,
        logits: torch.Tensor,
        norm: torch.Tensor,
        lo: torch.Tensor,
        hi: torch.Tensor,
        last: torch.Tensor,
        length: int | torch.Tensor,
        k: int,
    ) -> tuple[torch.Tensor, ...]:
        """The parts of `Candidates` as tensors, of clues of `length` tokens (a number, or int64[] on the device) with the ranges
        lo, hi int64[n, S]; no shape depends on a value."""
        mask, whole, at_end = self._after(lo, hi, last)
        scores, tokens = choose.top_masked(logits, norm, mask & self._usable, k)
        may_end = (whole if self.matcher.allow_eos else at_end) & (length >= self.matcher.min_tokens)
        end = choose.end_log_probs(logits, norm, self._eos)
        return scores, tokens, torch.where(may_end, end, -torch.inf), whole

    def whole(self, lo: torch.Tensor, hi: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """bool[n]: clues that may be finished as they stand (`ClueMatcher.endings` is not 0)."""
        return self._after(lo, hi, last)[1]

    def _after(
        self, lo: torch.Tensor, hi: torch.Tensor, last: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """bool[n, V]: the tokens that may follow; bool[n]: whether a clue ends at a border; whether at the end of a document."""
        mask, at_end = self.index.mask(lo, hi), self.index.at_end(lo, hi)
        if self.matcher.borders is None:
            return mask, torch.ones_like(at_end), at_end
        border = self._border_last[last][:, None] * self._border_first > WORD
        return mask, (mask & border).any(dim=1) | at_end, at_end


def _tables(follow: torch.Tensor, vocab: int, block: int) -> torch.Tensor:
    """The bitmaps of runs of 1, 2, 4, ... blocks; a run that would pass the end is cut there."""
    width, blocks = (vocab + 7) // 8, max(1, (len(follow) - 1) // block)
    levels = blocks.bit_length()
    tables = torch.zeros(levels, blocks, width, dtype=torch.uint8, device=follow.device)
    weights = 2 ** torch.arange(8, device=follow.device)
    for b in range(blocks):
        tokens = follow[b * block : (b + 1) * block].unique()
        flat = torch.zeros(width * 8, dtype=torch.int64, device=follow.device)
        flat[tokens[tokens < vocab].long()] = 1
        tables[0, b] = (flat.view(width, 8) * weights).sum(dim=1).to(torch.uint8)
    for level in range(1, levels):
        step = 2 ** (level - 1)
        tables[level] = tables[level - 1]
        tables[level, :-step] |= tables[level - 1, step:]
    return tables


def _bits() -> torch.Tensor:
    return (torch.arange(256)[:, None] >> torch.arange(8) & 1).bool()
