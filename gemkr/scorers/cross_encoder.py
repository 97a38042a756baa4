"""A document scorer that reads question and passage together: a cross-encoder of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.models.hf.sentence_transformers import CrossEncoderModel
from gemkr.types import Document, Query


class CrossEncoderScorer:
    """Scores given documents by a cross-encoder. Costs one forward pass of the model for each document."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A folder of a cross-encoder of sentence-transformers; of question and passage together it reads `max_tokens` tokens
        (default: the model's own limit). With `caption`, the question has the picture's caption behind it."""

        folder: FilePath
        max_tokens: Positive | None = None
        batch_size: Positive = 32
        caption: bool = False

    def __init__(
        self, model: CrossEncoderModel, documents: Sequence[Document], *, caption: bool = False
    ) -> None:
        self.model, self.documents, self.caption = model, documents, caption

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> CrossEncoderScorer:
        model = CrossEncoderModel(config.folder, max_tokens=config.max_tokens, batch_size=config.batch_size)
        return cls(model, sources.documents, caption=config.caption)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder."""
        return {"cross_encoder": config.folder}

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for document numbers int64[n]."""
        text = " ".join(part for part in (query.question, query.caption if self.caption else "") if part)
        return self.model.score(text, [self.documents[doc].contents for doc in docs.tolist()])
