"""Two second scorers together: each scaled over the documents asked about, then added in fixed shares.

Scorers of other scales so weigh what their shares say. Knows no query and no document itself.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gemkr.types import Query


class SizedScorer(Protocol):
    """A `DocumentScorer` that knows how many documents there are."""

    def __len__(self) -> int: ...

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray: ...


class Blend:
    """score(q, d) = (1 - share) first(q, d) + share second(q, d), each scaled to [0, 1] over the documents asked about.

    So a score is comparable within one call only, which is how a `DocumentScorer` is used.
    """

    def __init__(self, first: SizedScorer, second: SizedScorer, share: float) -> None:
        self.first, self.second, self.share = first, second, share

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.first)

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]; costs both scorers."""
        first, second = scaled(self.first.score(query, docs)), scaled(self.second.score(query, docs))
        return np.float32(1 - self.share) * first + np.float32(self.share) * second


def scaled(scores: np.ndarray) -> np.ndarray:
    """The scores moved and stretched to [0, 1]; all 0 where they are equal."""
    if len(scores) == 0:
        return scores
    least, most = scores.min(), scores.max()
    return (scores - least) / (most - least) if most > least else np.zeros_like(scores)
