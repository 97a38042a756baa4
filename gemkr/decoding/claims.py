"""What the clues of one query claim from each other, three rules of our own behind flags: one answer per head, stop at one
document, no document twice.

It looks at one candidate after the other; of the index it knows only how to extend a clue and which document it names.
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
from gemkr.decoding.hypotheses import Pool
from gemkr.text.words import Words

Candidate = tuple[float, int, int | None, float]
"""(total, beam of the group, token or None for "the model ends the clue", log-probability of the token or the end)"""


@dataclass(slots=True)
class Beam:
    """A live clue. `total` = log_prob minus diversity penalties; `row` = its row in the batch.

    `words` counts the words begun; `head` is the number of tokens of the finished head, 0 while it grows.
    After `advance`, `row` is the row of before that the last token extends.
    """

    tokens: tuple[int, ...]
    log_prob: float
    total: float
    row: int
    words: int = 0
    head: int = 0
    document: int | None = None


class Claims:
    """The heads and documents of a query's clues; `pools[g]` holds the finished clues of group g.

    `heads`, `documents`: whether they count in this search.
    """

    def __init__(
        self, settings: DecodingConfig, constraint: Constraint, words: Words, pools: Sequence[Pool]
    ) -> None:
        self.settings, self.constraint, self.words, self.pools = settings, constraint, words, pools
        self.heads = settings.group_by_head
        self.documents = settings.stop_at_one_document or settings.document_penalty > 0
        self._heads: Counter[tuple[int, ...]] = Counter()
        self._named: Counter[int] = Counter()

    def clear(self) -> None:
        """Forget what the live beams of the last step claimed."""
        self._heads.clear()
        self._named.clear()

    def child(self, parent: Beam, token: int, log_prob: float, total: float) -> Beam:
        """`parent` and one more token of the log-probability `log_prob`."""
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

    def head(self, beam: Beam) -> tuple[int, ...]:
        """The first words of a clue as far as it goes, letters of either case equal."""
        return self.words.folded(beam.tokens[: beam.head] if beam.head else beam.tokens)

    def claim_head(self, child: Beam, pool: Pool) -> bool:
        """Whether the head of `child` has room among the live beams and can still beat its finished clues in `pool`."""
        head, quota = self.head(child), self.settings.beams_per_head
        if self._heads[head] >= quota:
            return False
        hope = pool.attainable(child.total, len(child.tokens), self.settings.max_tokens)
        better = sum(c.head == head and c.score >= hope for c in pool.clues)
        if better >= quota:
            return False
        self._heads[head] += 1
        return True

    def claim_document(
        self, child: Beam, token: int, spans: tuple[np.ndarray, np.ndarray]
    ) -> tuple[int, int] | None:
        """Name the one document that `child` is left with, if it is one; the rows of a clue that is finished by that, else None.

        `token` is the last one of `child`; `spans`: lo and hi of the batch's rows, before it.
        """
        child.document, span = self._document(child, token, spans)
        if child.document is None:
            return None
        self._named[child.document] += 1
        return span if self._stops(child, span) else None

    def ordered(
        self, g: int, group: Sequence[Beam], ranked: Sequence[Candidate], spans: tuple[np.ndarray, np.ndarray]
    ) -> Iterator[Candidate]:
        """The candidates of group g, best first, those that name a document already named put back by the penalty."""
        penalty = self.settings.document_penalty
        if not penalty:
            yield from ranked
            return
        waiting: list[tuple[float, int]] = []
        for place, candidate in enumerate(ranked):
            while waiting and -waiting[0][0] >= candidate[0]:
                yield _penalized(ranked, *heapq.heappop(waiting))
            total, i, token, _ = candidate
            length = len(group[i].tokens)
            if token is None:
                others = [*self.pools[:g], *self.pools[g + 1 :]]
                times = _times_finished(group[i].document, total, length, others)
            else:
                document, _ = self._document(group[i], token, spans)
                times = _times_finished(document, total, length + 1, self.pools) + self._named[document]
            if not times:
                yield candidate
            elif penalty < math.inf:
                heapq.heappush(waiting, (penalty * times - total, place))
        while waiting:
            yield _penalized(ranked, *heapq.heappop(waiting))

    def _document(
        self, beam: Beam, token: int, spans: tuple[np.ndarray, np.ndarray]
    ) -> tuple[int | None, tuple[int, int]]:
        """The one document that a beam's row extended by a token names, None for several, and its rows of the index."""
        lo, hi = spans
        row = slice(beam.row, beam.row + 1)
        new_lo, new_hi = self.constraint.extend(lo[row], hi[row], np.array([token]))
        span = int(new_lo[0]), int(new_hi[0])
        return self.constraint.only_document(*span) if beam.document is None else beam.document, span

    def _stops(self, child: Beam, span: tuple[int, int]) -> bool:
        """Whether a clue that names one document is finished: it is long enough and ends where a clue may."""
        if not self.settings.stop_at_one_document or len(child.tokens) < self.settings.min_tokens:
            return False
        lo, hi = np.array([span[0]]), np.array([span[1]])
        return bool(self.constraint.endings(lo, hi, np.array(child.tokens[-1:]))[0])


def _penalized(ranked: Sequence[Candidate], cost: float, place: int) -> Candidate:
    """A clue that ends keeps its penalty; a live one is scored again at each step."""
    total, i, token, log_prob = ranked[place]
    return (total if token is not None else -cost), i, token, log_prob


def _times_finished(document: int | None, total: float, length: int, pools: Sequence[Pool]) -> int:
    """How many finished clues of `pools`, no worse than `total` over `length` tokens, name the document."""
    if document is None:
        return 0
    return sum(
        c.document == document and c.score >= p.normalized(total, length) for p in pools for c in p.clues
    )
