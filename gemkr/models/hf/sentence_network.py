"""A model of sentence-transformers as a network that can be trained: texts to tensors, tensors to vectors.

Gives the vectors that the library's own `encode` gives; knows the library by the model it is handed only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.errors import ModelError
from gemkr.models.embedder import Inputs
from gemkr.types import Document, Query

DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class SentenceNetwork(nn.Module):
    """Inputs of n texts -> float[n, width], each of length 1 where the model is made for cosines."""

    def __init__(self, model: nn.Module, *, unit: bool) -> None:
        super().__init__()
        self.model, self.unit = model, unit
        self.width = model.get_embedding_dimension()

    def forward(self, inputs: Inputs) -> Tensor:
        vectors = self.model(dict(inputs))["sentence_embedding"]
        return F.normalize(vectors, dim=-1) if self.unit else vectors


class SentenceReader:
    """Reads texts with the prompt of their side, or of the query, before them."""

    def __init__(
        self, model: Any, text_of: Callable[[Query], str], prompt_of: Callable[[Query], str | None]
    ) -> None:
        """`text_of` a query, and the `prompt_of` it (None: the model's own). ModelError for a model that leaves prompts out of the
        mean, whose length a network does not know."""
        if not all(getattr(module, "include_prompt", True) for module in model.children()):
            raise ModelError(
                "this encoder leaves prompts out of its mean (include_prompt: false), so that it cannot be trained here; set it to true"
            )
        self._model, self._text_of, self._prompt_of = model, text_of, prompt_of

    @property
    def tokenizer(self) -> Any:
        return self._model.tokenizer

    def queries(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """The question (and caption) behind the instruction's prompt, or the model's own for queries."""
        own = self._own("query")
        prompts = [self._prompt_of(query) or own for query in queries]
        return self._read([p + self._text_of(query) for p, query in zip(prompts, queries, strict=True)])

    def documents(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Title and text behind the model's own prompt for documents."""
        own = self._own(*DOCUMENT_PROMPTS)
        return self._read([own + document.contents for document in documents])

    def _own(self, *names: str) -> str:
        prompts = self._model.prompts
        name = next((name for name in names if name in prompts), self._model.default_prompt_name)
        return prompts.get(name) or ""

    def _read(self, texts: list[str]) -> dict[str, Tensor]:
        found = self._model.preprocess(texts)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}
