"""SEAL's scoring of documents by n-grams (Bevilacqua et al., "Autoregressive Search Engines", 2022).

From the paper's formulas (its equations 2 to 4); none of its code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.types import Clue, Hit, Query


class SealScorer:
    """Score of a document = sum over its clues of w(n, q)^alpha x cover(n).

    w(n, q) = max(0, log[P(n|q) (1 - P(n)) / (P(n) (1 - P(n|q)))]) with P(n) = count / tokens of the corpus.
    A clue counts in a document only if some occurrence of it there does not overlap one of a heavier
    clue; cover(n) = 1 - beta + beta x (share of its distinct tokens that no heavier counted clue has).
    The second scorer only breaks ties.
    """

    def __init__(self, lookup: ClueDocuments) -> None:
        self.index = lookup.index
        self.settings = lookup.settings
        self.lookup = lookup

    def rank(self, query: Query, clues: Sequence[Clue], k: int) -> tuple[Hit, ...]:
        """Documents are first ordered by their clues' full weights; the 10 x k best of them are scored exactly."""
        weights = np.array([self.weight(clue) for clue in clues])
        order = np.argsort(-weights, kind="stable")
        clues, weights = [clues[i] for i in order], weights[order]
        table = self.lookup.table(query, clues)
        bounds = weights**self.settings.alpha @ table.holds if len(clues) else np.zeros(0)
        likely = np.lexsort((table.docs, -table.second, -bounds))[: 10 * k]
        scored = [
            (-self._score(int(table.docs[d]), clues, weights, table.holds[:, d]), -table.second[d], d)
            for d in likely
        ]
        best = sorted(scored)[:k]
        return tuple(self.lookup.hit(clues, int(table.docs[d]), -score) for score, _, d in best)

    def weight(self, clue: Clue) -> float:
        """w(n, q) of one clue."""
        given = min(float(np.exp(clue.log_prob)), 1 - 1e-12)
        prior = min(max(clue.occurrences, 1) / max(self.index.n_tokens, 1), 1 - 1e-12)
        return max(0.0, float(np.log(given * (1 - prior) / (prior * (1 - given))))) if given > 0 else 0.0

    def _score(self, doc: int, clues: Sequence[Clue], weights: np.ndarray, holds: np.ndarray) -> float:
        tokens = np.asarray(self.index.extract(doc), dtype=np.int64)
        taken = np.zeros(len(tokens), dtype=bool)
        seen: set[int] = set()
        score = 0.0
        for c in np.flatnonzero(holds):
            pattern = np.array(clues[c].tokens, dtype=np.int64)
            windows = np.lib.stride_tricks.sliding_window_view(tokens, len(pattern))
            starts = np.flatnonzero((windows == pattern).all(axis=1))
            free = [s for s in starts if not taken[s : s + len(pattern)].any()]
            for s in starts:
                taken[s : s + len(pattern)] = True
            if not free:
                continue
            own = set(clues[c].tokens)
            cover = 1 - self.settings.beta + self.settings.beta * len(own - seen) / len(own)
            score += float(weights[c]) ** self.settings.alpha * cover
            seen |= own
        return score
