"""Two document scorers together: each scaled over the scored documents, then added in fixed shares.

Scorers of other scales so weigh what their shares say. Knows no query and no document itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from gemkr.config.ranges import Share
from gemkr.config.section import Section, section_files
from gemkr.interfaces import DocumentScorer
from gemkr.scorers import SCORERS
from gemkr.types import Query


class Blend:
    """score(q, d) = (1 - share) first(q, d) + share second(q, d), each scaled to [0, 1] over the scored documents.

    So a score is comparable within one call only, which is how a `DocumentScorer` is used.
    """

    @dataclass(frozen=True)
    class Config:
        """Two document scorers; `share` is the weight of the second, the first has the rest."""

        first: Annotated[Section, SCORERS]
        second: Annotated[Section, SCORERS]
        share: Share = 0.5

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> Blend:
        return cls(sources.scorer(config.first), sources.scorer(config.second), config.share)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """What both are read from."""
        return {
            f"{part}.{what}": path
            for part in ("first", "second")
            for what, path in section_files(getattr(config, part)).items()
        }

    def __init__(self, first: DocumentScorer, second: DocumentScorer, share: float) -> None:
        self.first, self.second, self.share = first, second, share

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
