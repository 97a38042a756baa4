"""Scorers that show a language model one hit at a time: a prompt for each, those of like length read together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from gemkr.models.batching import like_sizes
from gemkr.rerankers.asking import Asked
from gemkr.rerankers.candidates import candidates_of
from gemkr.types import Document, Query


class AskingScorer(ABC):
    """A `DocumentScorer`; subclasses say what a prompt's score is, and as which `kind` errors name them."""

    kind: ClassVar[str]

    def __init__(self, asked: Asked, documents: Sequence[Document], *, batch_size: int = 8) -> None:
        self.asked, self.documents, self.batch_size = asked, documents, batch_size

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]; DataError for one of which nothing can be read. Costs one prompt for each."""
        asked = self.asked
        shown = candidates_of(
            query, self.documents, docs, self.kind, pictures=asked.sees_documents, tidied=asked.tidied
        )
        scores = np.zeros(len(shown), np.float32)
        for rows in like_sizes([len(one.text) for one in shown], self.batch_size):
            prompts = [
                self.asked.prompts(query, passage=shown[i].passage, images=shown[i].images) for i in rows
            ]
            scores[rows] = self._scored(query, prompts)
        return scores

    @abstractmethod
    def _scored(self, query: Query, prompts: Sequence[Any]) -> np.ndarray:
        """float[n] of n prompts of one query."""
