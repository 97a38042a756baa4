"""The published way of ranking: the first document of each clue, in the order of the clues' beam scores."""

from __future__ import annotations

from collections.abc import Sequence

from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.types import Clue, Hit, Query


class ReferenceScorer:
    """The published way: the first document of each clue, in the order of the clues' beam scores."""

    def __init__(self, lookup: ClueDocuments) -> None:
        self.lookup = lookup

    def rank(self, query: Query, clues: Sequence[Clue], k: int) -> tuple[Hit, ...]:
        """At most one document per clue, so fewer than k hits where clues name the same document."""
        clues = sorted(clues, key=lambda clue: -clue.score)
        best: dict[int, float] = {}
        for clue in clues:
            doc = self.lookup.first(clue)
            if doc is not None:
                best.setdefault(doc, clue.score)
        return tuple(self.lookup.hit(clues, doc, score) for doc, score in list(best.items())[:k])
