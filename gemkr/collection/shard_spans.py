"""The spans of a sharded index: codes of patterns, each standing for one span in every shard. Knows shards as `ShardCalls` alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from weakref import WeakMethod

import numpy as np

from gemkr.collection.shard_calls import ShardCalls
from gemkr.fm_index import IndexQueryError, Span

SHARD_BITS = 56
MOST_SHARDS = 1 << 63 - SHARD_BITS
CACHED_SPANS = 1 << 15


class ShardSpans:
    """What the codes stand for. A code names the first shard that holds its pattern and where the span begins there; the spans of the
    last CACHED_SPANS codes are kept, those of another are searched anew."""

    def __init__(
        self, calls: ShardCalls, rows: Sequence[int], search: Callable[[Sequence[int]], Span]
    ) -> None:
        """`rows` of each shard, 0 of one that is lost; `search`, a method, finds the span of a pattern and gives it to `coded` on its way.

        It is held weakly: an index, and the processes behind it, end with the last who uses it, not when a circle is collected.
        """
        self._calls, self._rows, self._search = calls, list(rows), WeakMethod(search)
        self._states: dict[int, tuple[list[int], list[int]]] = {}

    def coded(self, los: np.ndarray, his: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64[n] twice: the spans of patterns that have the spans `los` and `his` int64[shards, n] in the shards."""
        counts = his - los
        holder = np.argmax(counts > 0, axis=0)
        totals = counts.sum(axis=0)
        codes = np.where(totals > 0, (holder << SHARD_BITS) | los[holder, np.arange(len(holder))], 0)
        for code, *state in zip(codes.tolist(), los.T.tolist(), his.T.tolist(), strict=True):
            if code:
                self._keep(code, *state)
        return codes, codes + totals

    def argument(self, span: Span) -> Callable[[int], tuple]:
        """The argument of a call about one whole span, for each shard."""
        los, his = self.resolve([span.lo], [span.hi])
        return lambda s: (Span(int(los[s, 0]), int(his[s, 0]), span.length),)

    def resolve(
        self, lo: Sequence[int] | np.ndarray, hi: Sequence[int] | np.ndarray, *, whole: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """int64[shards, n] twice: the spans of each shard, empty ones of those that are lost. IndexQueryError for spans of elsewhere,
        and with `whole` for parts."""
        lo, hi = np.asarray(lo, np.int64), np.asarray(hi, np.int64)
        los, his = np.zeros((2, len(self._rows), len(lo)), np.int64)
        for k, (a, b) in enumerate(zip(lo.tolist(), hi.tolist(), strict=True)):
            if a >= b:
                continue
            los[:, k], his[:, k] = self._state(a)
        gone = [s for s in range(len(self._rows)) if s not in self._calls.alive]
        his[gone] = los[gone]
        live, given = (his - los).sum(axis=0), hi - lo
        wrong = (given < 0) | ((given > live) & (not gone)) | ((given < live) & whole & (given > 0))
        if wrong.any():
            k = int(np.argmax(wrong))
            raise IndexQueryError(
                f"span [{lo[k]}, {hi[k]}) is not one of a pattern of these shards; use spans of this index only"
            )
        return los, his

    def _state(self, code: int) -> tuple[list[int], list[int]]:
        if code == 0:
            return [0] * len(self._rows), self._rows
        state = self._states.get(code)
        if state is None:
            s = code >> SHARD_BITS
            if not 0 <= s < len(self._rows):
                raise IndexQueryError(
                    f"no span of these shards begins at {code}; use spans of this index only"
                )
            span = self._search()(self._calls.one(s, "pattern", code & (1 << SHARD_BITS) - 1).tolist())
            if span.lo != code:
                raise IndexQueryError(
                    f"no span of these shards begins at {code}; use spans of this index only"
                )
            state = self._states[code]
        return state

    def _keep(self, code: int, los: list[int], his: list[int]) -> None:
        with self._calls.lock:
            if len(self._states) >= CACHED_SPANS:
                for old in list(islice(self._states, CACHED_SPANS // 4)):
                    del self._states[old]
            self._states[code] = (los, his)
