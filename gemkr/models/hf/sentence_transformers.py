"""Encoders, token encoders and cross-encoders from local folders of the library sentence-transformers; its only door here.

Plain Hugging Face folders of text encoders work too: the library then takes the mean of their states.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.errors import ModelError, first_line
from gemkr.models.batching import like_sizes, token_counts
from gemkr.models.hf.folder import UNREADABLE, without_bars
from gemkr.models.hf.sentence_network import SentenceNetwork, SentenceReader
from gemkr.models.precision import autocast, dtype_of
from gemkr.models.weights import new_weights, weights_digest
from gemkr.types import Document, Query

SIMILARITIES = {"cosine": True, "dot": False}
"""The similarities that inner products stand for -> whether vectors are of length 1."""


class SentenceTransformerEncoder:
    """An `Encoder` of texts: a query's question (and caption), a document's title and text.

    The model's own prompts stand before them. A query with an instruction has it in place of the model's query prompt, as
    `instruction_prompt` says. Vectors are of length 1 where the model is made for cosines.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A folder of sentence-transformers; of a longer text the first `max_tokens` tokens are read (default: the model's own
        limit). `instruction_prompt` has {instruction} in it. `checkpoint` of `gemkr train`, in which all weights learn.
        `precision` (fp32, bf16, fp16) is that of matrix products in `encode_*`; bf16 is nearly twice as fast on CPUs that have it."""

        folder: FilePath
        checkpoint: FilePath | None = None
        max_tokens: Positive | None = None
        caption: bool = False
        instruction_prompt: str = "{instruction} "
        batch_size: Positive = 32
        precision: str = "fp32"

    def __init__(self, config: Config, device: str | None = None) -> None:
        """Load the folder, never the network. ModelError where that fails, where the precision is unknown, or where the model
        compares vectors neither by cosine nor by inner product."""
        from sentence_transformers import SentenceTransformer

        if "{instruction}" not in config.instruction_prompt:
            raise ModelError(
                f"instruction_prompt is {config.instruction_prompt!r}, it has no {{instruction}} in it; put it there"
            )
        self.config, self._dtype = config, dtype_of(config.precision)
        self._model = _load(SentenceTransformer, config.folder, "encoder", device)
        if self._model.similarity_fn_name not in SIMILARITIES:
            raise ModelError(
                f"the encoder {config.folder} compares vectors by {self._model.similarity_fn_name!r}; known are "
                f"{', '.join(SIMILARITIES)}"
            )
        if config.max_tokens is not None:
            self._model.max_seq_length = config.max_tokens

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> SentenceTransformerEncoder:
        encoder = cls(config)
        if config.checkpoint is not None:
            sources.put_in(encoder.network, config.checkpoint)
        return encoder

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}

    @cached_property
    def network(self) -> SentenceNetwork:
        """The model for training; what it learns, `encode_queries` and `encode_documents` use."""
        return SentenceNetwork(self._model, unit=SIMILARITIES[self._model.similarity_fn_name])

    @cached_property
    def reader(self) -> SentenceReader:
        """What turns texts into the network's inputs."""
        return SentenceReader(self._model, self._text_of, self._prompt_of)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self._model.get_embedding_dimension()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides a document's vector: weights, prompts, length, similarity, and a precision other than fp32."""
        model = self._model
        rest = [model.prompts, model.default_prompt_name, model.max_seq_length, model.similarity_fn_name]
        if self.config.precision != "fp32":
            rest.append(self.config.precision)
        return weights_digest(model.state_dict() | {json.dumps(rest): torch.empty(0)})

    def encode_queries(self, queries: Sequence[Query]) -> np.ndarray:
        """float32[n, width]; ModelError for a query without a word."""
        vectors = np.empty((len(queries), self.width), np.float32)
        by_prompt: dict[str | None, list[int]] = {}
        for number, query in enumerate(queries):
            by_prompt.setdefault(self._prompt_of(query), []).append(number)
        for prompt, numbers in by_prompt.items():
            texts = [self._text_of(queries[number]) for number in numbers]
            vectors[numbers] = self._encode(self._model.encode_query, texts, prompt)
        return vectors

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray:
        """float32[n, width]."""
        return self._encode(self._model.encode_document, [document.contents for document in documents], None)

    def _prompt_of(self, query: Query) -> str | None:
        """What stands before a query with an instruction; None for the model's own prompt."""
        if not query.instruction:
            return None
        return self.config.instruction_prompt.replace("{instruction}", query.instruction)

    def _text_of(self, query: Query) -> str:
        parts = [query.question, (query.caption or "") if self.config.caption else ""]
        text = " ".join(part for part in parts if part)
        if not text:
            raise ModelError(
                f"the query {query.query_id!r} has no question, and this encoder reads texts only; give it one, or use an encoder of "
                "pictures"
            )
        return text

    def _encode(self, encode: Any, texts: list[str], prompt: str | None) -> np.ndarray:
        """float32[n, width]. The library is given one batch at a time: it would make batches by characters."""
        vectors = np.empty((len(texts), self.width), np.float32)
        with autocast(self._model.device, self._dtype):
            for numbers in like_sizes(token_counts(self._model.tokenizer, texts), self.config.batch_size):
                vectors[numbers] = encode(
                    [texts[number] for number in numbers],
                    prompt=prompt,
                    batch_size=self.config.batch_size,
                    show_progress_bar=False,
                    normalize_embeddings=SIMILARITIES[self._model.similarity_fn_name],
                )
        return vectors


class CrossEncoderModel:
    """A cross-encoder of a folder: reads query and passage together and says how well they match."""

    def __init__(self, folder: str, *, max_tokens: int | None = None, batch_size: int = 32) -> None:
        """Load the folder, never the network; ModelError where that fails, or where the model has more than one output."""
        from sentence_transformers import CrossEncoder

        self._model = _load(CrossEncoder, folder, "cross-encoder", None)
        if self._model.num_labels != 1:
            raise ModelError(
                f"the cross-encoder {folder} has {self._model.num_labels} outputs, one is needed: how well a passage matches"
            )
        if max_tokens is not None:
            self._model.max_length = max_tokens
        self._batch_size = batch_size

    def score(self, text: str, passages: Sequence[str]) -> np.ndarray:
        """float32[n]: how well each passage matches the text, the model's own output; higher is better."""
        if not passages:
            return np.empty(0, np.float32)
        pairs = [(text, passage) for passage in passages]
        scores = self._model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False)
        return np.asarray(scores, np.float32)


def load_multi_vector(folder: str, *, query_tokens: int | None, document_tokens: int | None) -> Any:
    """A model with one vector a token, in evaluation mode; texts are cut to so many tokens where that is given. A projection that the
    folder does not hold is the same one every time. ModelError where the folder cannot be loaded."""
    from sentence_transformers import MultiVectorEncoder

    with new_weights():
        model = _load(MultiVectorEncoder, folder, "multi-vector", None)
    if model.tokenizer.pad_token is None:
        raise ModelError(
            f"the tokenizer of the multi-vector folder {folder} has no padding token, so texts of several lengths cannot be encoded "
            "together; give it a pad_token"
        )
    first = model[0]
    if query_tokens is not None:
        if first.query_expansion is not None:
            first.query_expansion = {**first.query_expansion, "length": query_tokens}
        first.query_length = query_tokens
    if document_tokens is not None:
        first.document_length = document_tokens
    return model


def _load(kind: Any, folder: str, what: str, device: str | None) -> Any:
    """A model of the library from a local folder, in evaluation mode."""
    if not Path(folder).is_dir():
        raise ModelError(
            f"the {what} folder {folder} is not there; give a local folder of sentence-transformers"
        )
    try:
        with without_bars(), _quietly():
            return kind(str(folder), local_files_only=True, device=device).eval()
    except UNREADABLE as error:
        raise ModelError(f"the {what} folder {folder} cannot be loaded: {first_line(error)}") from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's notes on folders that are not its own."""
    log = logging.getLogger("sentence_transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
