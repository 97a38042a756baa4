"""Greedy coverage: pick the document with the most clue probability not yet covered, discount, repeat.

Ten documents so hold ten different answers rather than the best answer ten times.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.types import Clue, Hit, Query


class CoverageScorer:
    """Score of a document = uncovered probability of the clues it holds + `second_weight` x second scorer.

    Clue probabilities are the model's, scaled to sum to 1 over the query's clues. Once a document is
    picked, the clues that it holds keep `discount` of their weight. The second scorer, in [0, 1], also
    decides among documents that hold the same clues.
    """

    def __init__(self, lookup: ClueDocuments) -> None:
        self.settings = lookup.settings
        self.lookup = lookup

    def rank(self, query: Query, clues: Sequence[Clue], k: int) -> tuple[Hit, ...]:
        """O(k x clues x documents) numpy work, after the documents are looked up."""
        clues = sorted(clues, key=lambda clue: -clue.log_prob)
        table = self.lookup.table(query, clues)
        left = clue_weights(clues)
        free = np.ones(len(table.docs), dtype=bool)
        hits = []
        for _ in range(min(k, len(table.docs))):
            scores = left @ table.holds + self.settings.second_weight * table.second
            pick = int(np.argmax(np.where(free, scores, -np.inf)))
            free[pick] = False
            hits.append(self.lookup.hit(clues, int(table.docs[pick]), scores[pick]))
            left = np.where(table.holds[:, pick], left * self.settings.discount, left)
        return tuple(hits)


def clue_weights(clues: Sequence[Clue]) -> np.ndarray:
    """float64[clues]: the clues' probabilities, scaled to sum to 1."""
    log_probs = np.array([clue.log_prob for clue in clues])
    weights = np.exp(log_probs - log_probs.max(initial=-np.inf)) if len(clues) else log_probs
    return weights / weights.sum() if len(clues) else weights
