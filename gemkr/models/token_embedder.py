"""Encoders with one vector for each token: what PreFLMR and ColBERT-like models share, in retrieval and in training.

Their networks give float[n, T, width] for n items; a token that does not count, or is not there, is a vector of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from gemkr.errors import ModelError
from gemkr.interfaces import TokenVectors
from gemkr.models.batching import document_sizes, like_sizes
from gemkr.models.embedder import Embedder, Inputs, Reader
from gemkr.models.precision import autocast, dtype_of
from gemkr.types import Document, Query


class TokenEmbedder(Embedder):
    """A `TokenEncoder` of texts, pictures and both, made of a network and a reader. Vectors do not depend on what else is encoded;
    `precision` (fp32, bf16, fp16) is that of matrix products in `encode_*`."""

    def __init__(
        self, network: nn.Module, reader: Reader, *, batch_size: int, facts: Mapping[str, Any], precision: str
    ) -> None:
        """ModelError for a precision that is unknown."""
        own = {} if precision == "fp32" else {"precision": precision}
        super().__init__(network, reader, batch_size=batch_size, facts={**facts, **own})
        self._dtype = dtype_of(precision)

    def encode_queries(self, queries: Sequence[Query]) -> TokenVectors:
        """Vectors float32[sum, width], each of length 1; GemkrError for a query of which nothing is scored, or a picture that is missing."""
        found = self._tokens(self.reader.queries, queries, [0] * len(queries))
        for number in np.flatnonzero(np.diff(found.offsets) == 0).tolist():
            raise ModelError(
                f"the query {queries[number].query_id!r} has no token that is scored; give it a question or a picture that the encoder reads"
            )
        return found

    def encode_documents(self, documents: Sequence[Document]) -> TokenVectors:
        """Vectors float32[sum, width], each of length 1; those of like sizes are encoded together."""
        return self._tokens(self.reader.documents, documents, document_sizes(self.reader, documents))

    def _tokens(
        self, read: Callable[[Sequence[Any]], Inputs], items: Sequence[Any], sizes: Sequence[int]
    ) -> TokenVectors:
        found: list[np.ndarray] = [np.empty((0, self.width), np.float32)] * len(items)
        device = next(self.network.parameters()).device
        with torch.inference_mode(), autocast(device, self._dtype):
            for numbers in like_sizes(sizes, self._batch_size):
                inputs = read([items[number] for number in numbers])
                vectors = self.network({name: tensor.to(device) for name, tensor in inputs.items()})
                for number, own in zip(numbers, vectors.float().cpu().numpy(), strict=True):
                    found[number] = own[own.any(axis=1)]
        offsets = np.cumsum([0, *map(len, found)], dtype=np.int64)
        return TokenVectors(
            np.concatenate(found) if found else np.empty((0, self.width), np.float32), offsets
        )
