"""The control that measures clues alone: for each place in a ranking a document drawn from a clue's span.

The difference to a ranking is what greedy coverage and the second scorer contribute.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.retrievers.generative.coverage import clue_weights
from gemkr.scorers.random_order import RandomOrder
from gemkr.types import Clue, Hit, Query


class RandomDocumentScorer:
    """In turn, the clue with the most probability left names a document: one drawn from all that hold it, the chances equal.

    Then the clues that it holds keep `discount` of their weight, as under greedy coverage. No document is drawn twice; the
    draw depends on the query's id and `seed` only. The score of a hit is the weight that its clue had left.
    """

    def __init__(self, lookup: ClueDocuments, seed: int = 0) -> None:
        self.lookup = lookup
        self.order = RandomOrder(seed)

    def rank(self, query: Query, clues: Sequence[Clue], k: int) -> tuple[Hit, ...]:
        """O(documents of the clues) once, then O(clues) for each hit; fewer than k where the clues name fewer documents."""
        clues = sorted(clues, key=lambda clue: -clue.log_prob)
        spans = self.lookup.spans(clues)
        drawn = [self._draw(query, docs, k) for docs in spans]
        left, taken, hits = clue_weights(clues), set[int](), list[Hit]()
        while len(hits) < k and np.isfinite(left).any():
            largest = int(np.argmax(left))
            doc = next((doc for doc in drawn[largest].tolist() if doc not in taken), None)
            if doc is None:
                left[largest] = -np.inf
                continue
            taken.add(doc)
            hits.append(self.lookup.hit(clues, doc, left[largest]))
            left = np.where(
                [_contains(docs, doc) for docs in spans], left * self.lookup.settings.discount, left
            )
        return tuple(hits)

    def _draw(self, query: Query, docs: np.ndarray, most: int) -> np.ndarray:
        """int64[<= most]: documents in the order in which they are drawn."""
        chances = self.order.score(query, docs)
        if len(docs) > most:
            kept = np.argpartition(-chances, most - 1)[:most]
            docs, chances = docs[kept], chances[kept]
        return docs[np.argsort(-chances, kind="stable")]


def _contains(ascending: np.ndarray, doc: int) -> bool:
    at = int(np.searchsorted(ascending, doc))
    return at < len(ascending) and int(ascending[at]) == doc
