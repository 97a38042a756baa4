"""Finished clues of a beam search: a short list, best first, with room for a fixed number.

Knows scores, heads and documents of clues; nothing of models, indexes or live beams.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Finished:
    """A finished clue. `total` = log-probability minus diversity penalties; `score` is set by the pool."""

    tokens: tuple[int, ...]
    log_prob: float
    total: float
    lo: int
    hi: int
    head: tuple[int, ...]
    document: int | None = None
    score: float = -math.inf


def best_clues(clues: Iterable[Finished], most: int) -> list[Finished]:
    """The best clues, each token sequence once, at most so many; of equal ones the first."""
    ordered = sorted(clues, key=lambda c: -c.score)
    unique = {clue.tokens: clue for clue in reversed(ordered)}
    return sorted(unique.values(), key=lambda c: (-c.score, c.tokens))[:most]


class Pool:
    """The best `capacity` finished clues of one group of beams.

    `score = (total - penalties) / tokens ** length_penalty`. With `per_head`, at most that many clues share
    a head. With a `document_penalty`, each clue that names a document (its span holds only this one) pays
    the penalty once for every better clue of the pool that names the same document; infinity removes it.
    """

    def __init__(
        self,
        capacity: int,
        length_penalty: float,
        *,
        per_head: int | None = None,
        document_penalty: float = 0.0,
    ) -> None:
        self.capacity = capacity
        self.length_penalty = length_penalty
        self.per_head = per_head
        self.document_penalty = document_penalty
        self.clues: list[Finished] = []

    @property
    def full(self) -> bool:
        return len(self.clues) >= self.capacity

    @property
    def worst(self) -> float:
        """The score a new clue must beat: -inf while there is room."""
        return self.clues[-1].score if self.full else -math.inf

    def normalized(self, total: float, length: int) -> float:
        """A sum of log-probabilities over `length` tokens as a score of this pool."""
        return total / length**self.length_penalty

    def attainable(self, total: float, length: int, max_tokens: int) -> float:
        """The best score that a beam of `length` tokens can still reach within `max_tokens`."""
        return total / (max_tokens if self.length_penalty > 0 else length) ** self.length_penalty

    def add(self, clue: Finished) -> None:
        """Insert a clue if it is good enough, drop what no longer is."""
        if not self.document_penalty and self.per_head is None:
            clue.score = self.normalized(clue.total, len(clue.tokens))
            if clue.score > self.worst or not self.full:
                self._insert(clue)
                del self.clues[self.capacity :]
            return
        self.clues = self._ranked([*self.clues, clue])

    def _insert(self, clue: Finished) -> None:
        place = len(self.clues)
        while place and self.clues[place - 1].score < clue.score:
            place -= 1
        self.clues.insert(place, clue)

    def _ranked(self, clues: list[Finished]) -> list[Finished]:
        clues.sort(key=lambda c: -self.normalized(c.total, len(c.tokens)))
        heads: dict[tuple[int, ...], int] = {}
        named: dict[int, int] = {}
        seen: set[tuple[int, ...]] = set()
        kept = []
        for clue in clues:
            if clue.tokens in seen:
                continue
            seen.add(clue.tokens)
            heads[clue.head] = heads.get(clue.head, 0) + 1
            if self.per_head is not None and heads[clue.head] > self.per_head:
                continue
            total = clue.total
            if self.document_penalty and clue.document is not None:
                if named.get(clue.document):
                    total -= self.document_penalty * named[clue.document]
                named[clue.document] = named.get(clue.document, 0) + 1
            clue.score = self.normalized(total, len(clue.tokens))
            if clue.score > -math.inf:
                kept.append(clue)
        kept.sort(key=lambda c: -c.score)
        return kept[: self.capacity]
