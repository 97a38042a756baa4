"""PreFLMR in numpy, one item at a time and without a token of padding that the model does not see."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import twins

from gemkr.models.flmr.encoder import PreFLMREncoder
from gemkr.types import Document, Query

HEADS = 2


def bert(w: twins.Weights, name: str, tokens: list[int], seen: np.ndarray, config: Any) -> np.ndarray:
    """States [T, D]; only tokens `seen` bool[T] are attended to."""
    eps = config.layer_norm_eps
    at = f"{name}.embeddings"
    x = w[f"{at}.word_embeddings.weight"][tokens] + w[f"{at}.token_type_embeddings.weight"][0]
    x = x + w[f"{at}.position_embeddings.weight"][positions(tokens, config)]
    x = twins.norm(w, f"{at}.LayerNorm", x, eps)
    return layers(w, f"{name}.encoder", x, eps, np.where(seen, 0.0, -np.inf))


def positions(tokens: list[int], config: Any) -> list[int]:
    """BERT counts all tokens from 0, XLM-R those that are no padding from behind the padding's own number, where padding stays."""
    if config.model_type == "bert":
        return list(range(len(tokens)))
    padding, found = config.pad_token_id, []
    for token in tokens:
        found.append(padding if token == padding else padding + 1 + sum(place > padding for place in found))
    return found


def layers(
    w: twins.Weights, name: str, x: np.ndarray, eps: float, bias: Any = 0.0, other: np.ndarray | None = None
) -> np.ndarray:
    """Post-norm blocks, with cross-attention to `other` states where they are given."""

    def block(at: str, h: np.ndarray, seen: np.ndarray, bias: Any) -> np.ndarray:
        q = twins.linear(w, f"{at}.self.query", h)
        k, v = (twins.linear(w, f"{at}.self.{part}", seen) for part in ("key", "value"))
        mixed = twins.linear(w, f"{at}.output.dense", twins.attend(q, k, v, HEADS, bias))
        return twins.norm(w, f"{at}.output.LayerNorm", mixed + h, eps)

    layer = 0
    while f"{name}.layer.{layer}.output.dense.weight" in w:
        at = f"{name}.layer.{layer}"
        x = block(f"{at}.attention", x, x, bias)
        if other is not None:
            x = block(f"{at}.crossattention", x, other, 0.0)
        h = twins.linear(w, f"{at}.output.dense", twins.gelu(twins.linear(w, f"{at}.intermediate.dense", x)))
        x = twins.norm(w, f"{at}.output.LayerNorm", h + x, eps)
        layer += 1
    return x


def vision(w: twins.Weights, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The CLS state after the last layer, the patches after the one before it."""
    w = {f"vision_model.{name[7:]}": value for name, value in w.items() if name.startswith("vision.")}
    at = "vision_model.embeddings"
    found = twins.patches(w[f"{at}.patch_embedding.weight"], pixels)
    x = np.vstack([w[f"{at}.class_embedding"], found]) + w[f"{at}.position_embedding.weight"]
    x = twins.norm(w, "vision_model.pre_layrnorm", x, 1e-5)
    last = max(int(name.split(".")[3]) for name in w if name.startswith("vision_model.encoder.layers."))
    before = {name: value for name, value in w.items() if f".layers.{last}." not in name}
    patches = twins.clip_layers(before, "vision_model", x, HEADS)[1:]
    return twins.clip_layers(w, "vision_model", x, HEADS)[0], patches


def mapped(w: twins.Weights, whole: np.ndarray, width: int) -> np.ndarray:
    hidden = np.tanh(twins.linear(w, "image_mapping.0", whole))
    return twins.linear(w, "image_mapping.2", hidden).reshape(-1, width)


def query_vectors(
    encoder: PreFLMREncoder, query: Query, picture: np.ndarray | None, crops: list[np.ndarray]
) -> np.ndarray:
    network, reader = encoder.network, encoder.reader
    w, width, length = twins.numbers(network.state_dict()), network.width, reader.reading.query_tokens
    tokenizer = reader.tokenizer
    instruction = tokenizer.tokenize(f"{query.instruction.rstrip(': ')}:") if query.instruction else []
    words = [*instruction, *tokenizer.tokenize(query.question)][: length - 3]
    ids = tokenizer.convert_tokens_to_ids(["[CLS]", "[unused0]", *words, "[SEP]"])
    counts = np.array([True, True, *(i >= len(instruction) for i in range(len(words))), True])
    rest = length - len(ids)
    seen = np.array([True] * len(ids) + [False] * rest)
    fill = tokenizer.mask_token_id if reader.reading.mask_padding else tokenizer.pad_token_id
    counts = np.append(counts, np.full(rest, reader.reading.mask_padding))
    config = network.query_text.config
    states = bert(w, "query_text", ids + [fill] * rest, seen, config)
    found = []
    if query.question or query.instruction:
        found.append(twins.linear(w, "query_linear", states)[counts])
    if picture is not None:
        whole, patches = vision(w, picture)
        found.append(mapped(w, whole, width))
        if network.patch_layers is not None:
            x = layers(
                w, "patch_layers", twins.linear(w, "patch_input", patches), config.layer_norm_eps,
                other=states[: network.seen_tokens],
            )  # fmt: skip
            found.append(twins.linear(w, "patch_output", x))
    found += [mapped(w, vision(w, crop)[0], width) for crop in crops]
    vectors = np.vstack(found)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def document_vectors(encoder: PreFLMREncoder, document: Document, picture: np.ndarray | None) -> np.ndarray:
    network, tokenizer = encoder.network, encoder.reader.tokenizer
    w = twins.numbers(network.state_dict())
    words = tokenizer.tokenize(document.contents)[: encoder.reader.reading.document_tokens - 3]
    ids = tokenizer.convert_tokens_to_ids(["[CLS]", "[unused1]", *words, "[SEP]"])
    name = "query" if network.document_text is None else "document"
    config = network.query_text.config
    states = bert(w, f"{name}_text", ids, np.ones(len(ids), bool), config)
    counts = [word not in string.punctuation for word in words]
    found = [np.empty((0, network.width))]
    if any(counts):
        found.append(twins.linear(w, f"{name}_linear", states)[[True, True, *counts, True]])
    if picture is not None:
        found.append(mapped(w, vision(w, picture)[0], network.width))
    vectors = np.vstack(found)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
