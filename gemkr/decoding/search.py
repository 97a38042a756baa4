"""The beams of one query and how they advance by one token: groups, diversity, heads and documents.

Group beam search after Vijayakumar et al. (2018) as Hugging Face published it, plus three rules of our own
behind flags: one answer per head, stop at one document, no document twice. It sees candidates as arrays on
the host; it knows no model, and of the index only how to extend a clue and which document it names.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import Constraint
from gemkr.decoding.hypotheses import Finished, Pool, best_clues
from gemkr.decoding.logits import Candidates
from gemkr.text.words import Words

Candidate = tuple[float, int, int | None, float]
"""(total, beam of the group, token or None for "the model ends the clue", log-probability of the token or the end)"""


@dataclass(slots=True)
class Beam:
    """A live clue. `total` = log_prob minus diversity penalties; `row` = its row in the batch.

    `words` counts the words begun; `head` is the number of tokens of the finished head, 0 while it grows.
    After `advance`, `row` and `token` say which row to extend by which token.
    """

    tokens: tuple[int, ...]
    log_prob: float
    total: float
    row: int
    words: int = 0
    head: int = 0
    document: int | None = None


class QuerySearch:
    """The state of one query's search; `groups[g]` holds the live beams of group g, `pools[g]` its finished clues.

    `chosen` lists the tokens that the groups have chosen at this step (diversity counts them).
    """

    def __init__(self, settings: DecodingConfig, constraint: Constraint, words: Words, row: int) -> None:
        self.settings = settings
        self.constraint = constraint
        self.words = words
        self.size = settings.beam_size // settings.groups
        self.groups = [[Beam((), 0.0, 0.0, row)] for _ in range(settings.groups)]
        self.pools = [
            Pool(
                self.size,
                settings.length_penalty,
                per_head=settings.beams_per_head if settings.group_by_head else None,
                document_penalty=settings.document_penalty,
            )
            for _ in range(settings.groups)
        ]
        self._documents = settings.stop_at_one_document or settings.document_penalty > 0
        self._heads: Counter[tuple[int, ...]] = Counter()
        self._named: Counter[int] = Counter()
        self.chosen: list[int] = []

    @property
    def live(self) -> list[Beam]:
        return [beam for group in self.groups for beam in group]

    def begin_step(self) -> None:
        """Clear what the beams of the last step claimed."""
        self._heads.clear()
        self._named.clear()
        self.chosen.clear()

    def walk(
        self,
        g: int,
        ranked: Sequence[Candidate],
        spans: tuple[np.ndarray, np.ndarray],
        finished: Sequence[bool],
    ) -> None:
        """Replace group g by the best of its candidates.

        `ranked`: (total, beam of the group, token or None for "the model ends it", log-probability), best
        first; `spans`: lo and hi of the batch's rows; `finished[i]`: nothing may follow beam i, it is finished
        as it stands. A clue that the model ends counts only among the first `size` candidates (as
        published), a clue stopped at one document among twice as many.
        """
        group, pool, live = self.groups[g], self.pools[g], []
        lo, hi = spans
        for beam, is_finished in zip(group, finished):
            if is_finished and beam.tokens:
                self._finish(pool, beam, beam.log_prob, beam.total, int(lo[beam.row]), int(hi[beam.row]))
        rank = 0
        for total, i, token, log_prob in self._ordered(g, ranked, spans):
            parent = group[i]
            if token is None:
                if rank < self.size:
                    row = parent.row
                    self._finish(pool, parent, parent.log_prob + log_prob, total, int(lo[row]), int(hi[row]))
                rank += 1
                continue
            child = self._child(parent, token, log_prob, total)
            if self.settings.group_by_head and not self._claim_head(child, pool):
                continue
            if self._documents:
                span = self._name_document(child, parent, token, spans)
                if child.document is not None:
                    self._named[child.document] += 1
                    if self._stops(child, span):
                        if rank < 2 * self.size:
                            self._finish(pool, child, child.log_prob, total, *span)
                        rank += 1
                        continue
            live.append(child)
            rank += 1
            if len(live) == self.size:
                break
        self.chosen += [beam.tokens[-1] for beam in live]
        self.groups[g] = self._worth_keeping(pool, live, ranked)

    def close(self, spans: tuple[np.ndarray, np.ndarray], whole: np.ndarray) -> None:
        """Finish the live beams at the maximum length whose row is `whole` (bool[rows], like `spans`); the others stay."""
        lo, hi = spans
        for g, group in enumerate(self.groups):
            for beam in group:
                row = beam.row
                if whole[row]:
                    self._finish(self.pools[g], beam, beam.log_prob, beam.total, int(lo[row]), int(hi[row]))
            self.groups[g] = [beam for beam in group if not whole[beam.row]]

    def go_on(self, step: Candidates, most: int) -> None:
        """Extend each live beam by its best token, to end the character or word that it stands in; drop those that nothing
        may follow, or that cannot win within `most` tokens."""
        for g, group in enumerate(self.groups):
            longer = []
            for beam in group:
                token, log_prob = int(step.tokens[beam.row, 0]), float(step.log_probs[beam.row, 0])
                child = self._child(beam, token, log_prob, beam.total + log_prob)
                pool = self.pools[g]
                if pool.attainable(child.total, len(child.tokens), most) > pool.worst:
                    longer.append(child)
            self.groups[g] = longer

    def growing(self) -> list[tuple[tuple[int, ...], float, bool]]:
        """(tokens, log-probability, finished) of all clues as they stand, best first, each token sequence once; at most `beam_size`."""
        clues = [(beam.tokens, beam.log_prob, False) for beam in self.live]
        clues += [(clue.tokens, clue.log_prob, True) for pool in self.pools for clue in pool.clues]
        best = {clue[0]: clue for clue in sorted(clues, key=lambda clue: clue[1])}
        return list(reversed(best.values()))[: self.settings.beam_size]

    def stop(self) -> None:
        """Give up: nothing grows any more, and nothing was found."""
        self.groups = [[] for _ in self.groups]
        for pool in self.pools:
            pool.clues.clear()

    def results(self) -> list[Finished]:
        """All finished clues, best first, each token sequence once, at most `beam_size`."""
        return best_clues((c for pool in self.pools for c in pool.clues), self.settings.beam_size)

    def _stops(self, child: Beam, span: tuple[int, int]) -> bool:
        """Whether a clue that names one document is finished: it is long enough and ends where a clue may."""
        if not self.settings.stop_at_one_document or len(child.tokens) < self.settings.min_tokens:
            return False
        lo, hi = np.array([span[0]]), np.array([span[1]])
        return bool(self.constraint.endings(lo, hi, np.array(child.tokens[-1:]))[0])

    def _child(self, parent: Beam, token: int, log_prob: float, total: float) -> Beam:
        words, head = parent.words, parent.head
        breaks = not parent.tokens or self.words.breaks(token)
        if not head and breaks:
            words += 1
            head = len(parent.tokens) if words > self.settings.head_words else 0
        return Beam(
            (*parent.tokens, token),
            parent.log_prob + log_prob,
            total,
            parent.row,
            words,
            head,
            parent.document,
        )

    def _head(self, beam: Beam) -> tuple[int, ...]:
        return self.words.folded(beam.tokens[: beam.head] if beam.head else beam.tokens)

    def _claim_head(self, child: Beam, pool: Pool) -> bool:
        """Whether the head of `child` has room among the live beams and can still beat its finished clues."""
        head, quota = self._head(child), self.settings.beams_per_head
        if self._heads[head] >= quota:
            return False
        hope = pool.attainable(child.total, len(child.tokens), self.settings.max_tokens)
        better = sum(c.head == head and c.score >= hope for c in pool.clues)
        if better >= quota:
            return False
        self._heads[head] += 1
        return True

    def _name_document(
        self, child: Beam, parent: Beam, token: int, spans: tuple[np.ndarray, np.ndarray]
    ) -> tuple[int, int]:
        lo, hi = spans
        row = slice(parent.row, parent.row + 1)
        new_lo, new_hi = self.constraint.extend(lo[row], hi[row], np.array([token]))
        span = int(new_lo[0]), int(new_hi[0])
        if child.document is None:
            child.document = self.constraint.only_document(*span)
        return span

    def _ordered(
        self,
        g: int,
        ranked: Sequence[Candidate],
        spans: tuple[np.ndarray, np.ndarray],
    ) -> Iterator[Candidate]:
        """The candidates, best first, those that name a document already named put back by the penalty."""
        penalty, group = self.settings.document_penalty, self.groups[g]
        if not penalty:
            yield from ranked
            return
        waiting: list[tuple[float, int]] = []
        for place, candidate in enumerate(ranked):
            while waiting and -waiting[0][0] >= candidate[0]:
                yield self._penalized(ranked, *heapq.heappop(waiting))
            total, i, token, log_prob = candidate
            if token is None:
                document, length = group[i].document, len(group[i].tokens)
                times = self._times_finished(document, total, length, self.pools[:g] + self.pools[g + 1 :])
            else:
                child = self._child(group[i], token, log_prob, total)
                self._name_document(child, group[i], token, spans)
                times = self._times_finished(child.document, total, len(child.tokens), self.pools)
                times += self._named[child.document]
            if not times:
                yield candidate
            elif penalty < math.inf:
                heapq.heappush(waiting, (penalty * times - total, place))
        while waiting:
            yield self._penalized(ranked, *heapq.heappop(waiting))

    @staticmethod
    def _penalized(ranked: Sequence[Candidate], cost: float, place: int) -> Candidate:
        """A clue that ends keeps its penalty; a live one is scored again at each step."""
        total, i, token, log_prob = ranked[place]
        return (total if token is not None else -cost), i, token, log_prob

    def _times_finished(self, document: int | None, total: float, length: int, pools: Sequence[Pool]) -> int:
        """How many finished clues of `pools`, no worse than `total` over `length` tokens, name the document."""
        if document is None:
            return 0
        return sum(
            c.document == document and c.score >= p.normalized(total, length) for p in pools for c in p.clues
        )

    def _finish(self, pool: Pool, beam: Beam, log_prob: float, total: float, lo: int, hi: int) -> None:
        pool.add(Finished(beam.tokens, log_prob, total, lo, hi, self._head(beam), beam.document))

    def _worth_keeping(self, pool: Pool, live: list[Beam], ranked: Sequence[Candidate]) -> list[Beam]:
        """No beam once the group is done by the published rule; without diversity, none that cannot win."""
        if not live:
            return live
        length = len(live[0].tokens)
        if pool.full and pool.worst >= pool.normalized(ranked[0][0], length):
            return []
        if self.settings.diversity and self.settings.groups > 1:
            return live
        most = self.settings.max_tokens
        return [beam for beam in live if pool.attainable(beam.total, length, most) > pool.worst]
