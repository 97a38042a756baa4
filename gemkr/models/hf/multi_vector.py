"""ColBERT-like models of sentence-transformers as token encoders, in retrieval and in training.

Knows the library by the model it is handed only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.errors import ModelError
from gemkr.models.embedder import Inputs
from gemkr.models.hf.sentence_transformers import load_multi_vector
from gemkr.models.token_embedder import TokenEmbedder
from gemkr.types import Document, Query, QueryVector

QUERY_SIDE = "query_side"
"""Among the inputs of queries alone."""


class MultiVectorNetwork(nn.Module):
    """Inputs of n texts -> float[n, T, width], each vector of length 1; zeros where a token does not count."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.width = model, model.get_embedding_dimension()

    def forward(self, inputs: Inputs) -> Tensor:
        task = "query" if QUERY_SIDE in inputs else "document"
        own = {name: tensor for name, tensor in inputs.items() if name != QUERY_SIDE}
        found = self.model(own, task=task)
        vectors = F.normalize(found["token_embeddings"], dim=-1)
        return vectors * found["attention_mask"].bool()[:, :, None]


class MultiVectorReader:
    """Reads texts with the model's own prompts; an instruction stands before its question and is scored like it."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def tokenizer(self) -> Any:
        return self._model.tokenizer

    def queries(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """ModelError for a query without a word."""
        texts = []
        for query in queries:
            if not query.question.strip():
                raise ModelError(
                    f"the query {query.query_id!r} has no question, and this encoder reads texts only; give it one, or use an encoder "
                    "of pictures"
                )
            texts.append(f"{query.instruction} {query.question}" if query.instruction else query.question)
        found = self._read(texts, "query")
        return found | {QUERY_SIDE: torch.ones(len(queries))}

    def documents(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Title and text."""
        found = self._read([document.contents for document in documents], "document")
        bare = torch.tensor([not document.contents.strip() for document in documents], dtype=torch.bool)
        return found | {"attention_mask": found["attention_mask"].masked_fill(bare[:, None], 0)}

    def tokens(self, inputs: Inputs) -> list[str]:
        """Those of the first text, as the tokenizer spells them."""
        return self.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())

    def places(self, document: Document, inputs: Inputs) -> np.ndarray:
        """int64[n, 2]: the characters of `document.contents` that each of its n tokens stands for; (0, 0) for markers and the prompt, and
        for all where the tokenizer does not say."""
        ids = inputs["input_ids"][0].tolist()
        places = np.zeros((len(ids), 2), np.int64)
        if not self.tokenizer.is_fast:
            return places
        before = len(self._prompt("document") or "")
        text = (self._prompt("document") or "") + document.contents
        found = self.tokenizer(text, truncation=True, max_length=len(ids), return_offsets_mapping=True)
        if found["input_ids"] == ids:
            places[:] = np.array(found["offset_mapping"]).reshape(-1, 2) - before
            places[(places[:, 0] < 0) | (places[:, 0] == places[:, 1])] = 0
        return places

    def _prompt(self, task: str) -> str | None:
        return self._model.prompts.get(task) or None

    def _read(self, texts: list[str], task: str) -> dict[str, Tensor]:
        found = self._model.preprocess(texts, prompt=self._prompt(task), task=task)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}


class MultiVectorTokenEncoder(TokenEmbedder):
    """A `TokenEncoder` of texts: a folder of sentence-transformers with one vector a token (ColBERT, PyLate's models), or of a plain text
    encoder, which is given a projection to 128 numbers that is to be learned."""

    reads_pictures = False

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A folder; `checkpoint` of `gemkr train`, in which all weights learn. Of longer texts the first `query_tokens` and
        `document_tokens` tokens are read (default: as the model says), with matrix products in `precision` (fp32, bf16, fp16)."""

        folder: FilePath
        checkpoint: FilePath | None = None
        query_tokens: Positive | None = None
        document_tokens: Positive | None = None
        batch_size: Positive = 32
        precision: str = "fp32"

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> MultiVectorTokenEncoder:
        model = load_multi_vector(
            config.folder, query_tokens=config.query_tokens, document_tokens=config.document_tokens
        )
        network = MultiVectorNetwork(model)
        network.requires_grad_(True)
        if config.checkpoint is not None:
            sources.put_in(network, config.checkpoint)
        settings = [module.get_config_dict() for module in model if hasattr(module, "get_config_dict")]
        facts = {"prompts": model.prompts, "modules": json.loads(json.dumps(settings, default=str))}
        return cls(
            network,
            MultiVectorReader(model),
            batch_size=config.batch_size,
            facts=facts,
            precision=config.precision,
        )

    def describe_query(self, query: Query) -> list[QueryVector]:
        """What each vector of `encode_queries([query])` stands for, in order."""
        inputs = self.reader.queries([query])
        spelled = self.reader.tokens(inputs)
        return [QueryVector(spelled[number]) for number in self._scored(inputs)]

    def describe_document(self, document: Document) -> np.ndarray:
        """int64[m, 2]: the characters of `document.contents` that each of its vectors stands for; none (0, 0) for markers."""
        inputs = self.reader.documents([document])
        return self.reader.places(document, inputs)[self._scored(inputs)]

    def _scored(self, inputs: Inputs) -> np.ndarray:
        """int64[m]: the tokens of the first text that have a vector; the model's own modules decide, so that it is asked."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            vectors = self.network({name: tensor.to(device) for name, tensor in inputs.items()})
        return np.flatnonzero(vectors[0].any(dim=1).cpu().numpy())

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}
