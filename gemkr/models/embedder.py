"""An encoder made of a network and a reader: what UniIR's models and VLM embedders share, in retrieval and in training.

The reader turns queries and documents into named tensors on the CPU, the network turns these into vectors of length 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from gemkr.errors import ModelError, VisionError
from gemkr.models.batching import document_sizes, like_sizes
from gemkr.models.weights import weights_digest
from gemkr.types import Document, Query
from gemkr.vision.protocols import Pictures

Inputs = Mapping[str, Tensor]
"""What a network is given for some texts and pictures, by name."""


class Reader(Protocol):
    """Queries and documents as a network is shown them; a function of them alone, safe in several processes.

    Where what a network is shown of the same item changes, the reader's `version` (an int; without one: 1) goes up, so that vectors
    made before are told from those made after.
    """

    def queries(self, queries: Sequence[Query]) -> Inputs: ...

    def documents(self, documents: Sequence[Document]) -> Inputs: ...


class Embedder:
    """An `Encoder` of texts, pictures and both. Subclasses say how it is made of settings.

    `network` has a `width` and turns `Inputs` of n items into float[n, width], each of length 1. `facts` (JSON values) are what
    decides a vector beside the weights.
    """

    reads_pictures = True

    def __init__(
        self, network: nn.Module, reader: Reader, *, batch_size: int, facts: Mapping[str, Any]
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network, self.reader = network.to(device).eval(), reader
        self._batch_size, self._facts = batch_size, dict(facts)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.network.width

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides a vector: weights and how texts and pictures are read."""
        version = getattr(self.reader, "version", 1)
        facts = self._facts | ({"reader": version} if version > 1 else {})
        rest = json.dumps([type(self).__name__, facts], sort_keys=True)
        return weights_digest(self.network.state_dict() | {rest: torch.empty(0)})

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray:
        """float32[n, width], each of length 1; GemkrError for a query without a word and a picture, or a picture that is missing."""
        return self._encode(self.reader.queries, queries, [0] * len(queries))

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray:
        """float32[n, width], each of length 1; those of like sizes are encoded together."""
        return self._encode(self.reader.documents, documents, document_sizes(self.reader, documents))

    def _encode(
        self, read: Callable[[Sequence[Any]], Inputs], items: Sequence[Any], sizes: Sequence[int]
    ) -> np.ndarray:
        vectors = np.empty((len(items), self.width), np.float32)
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            for numbers in like_sizes(sizes, self._batch_size):
                inputs = read([items[number] for number in numbers])
                found = self.network({name: tensor.to(device) for name, tensor in inputs.items()})
                vectors[numbers] = found.float().cpu().numpy()
        return vectors


def open_picture(pictures: Pictures | None, image: str, name: str) -> Any:
    """The picture of `name` ("the query 'q7'"); ModelError where there is no folder of pictures, VisionError for one that is
    missing or corrupt."""
    if pictures is None:
        raise ModelError(f"{name} has the picture {image!r} and no folder of pictures is known; set images")
    try:
        return pictures.open(image)
    except VisionError as error:
        raise VisionError(f"{name}: {error}") from error
