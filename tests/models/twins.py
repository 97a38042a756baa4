"""Transformers in numpy, straight from their formulas, one item at a time: the slow twins of the encoders of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Weights = dict[str, np.ndarray]


def numbers(state: dict) -> Weights:
    return {name: tensor.detach().double().numpy() for name, tensor in state.items()}


def linear(w: Weights, name: str, x: np.ndarray) -> np.ndarray:
    out = x @ w[f"{name}.weight"].T
    return out + w[f"{name}.bias"] if f"{name}.bias" in w else out


def norm(w: Weights, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def quick_gelu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-1.702 * x))


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    heads: int,
    bias: np.ndarray | float = 0.0,
    scale: bool = True,
) -> np.ndarray:
    """[T, D], [S, D], [S, D] -> [T, D]; `bias` [T, S] or [heads, T, S] is added to the scores."""
    width = q.shape[1] // heads
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = q[:, part] @ k[:, part].T / (math.sqrt(width) if scale else 1)
        scores = scores + (bias[head] if np.ndim(bias) == 3 else bias)
        out.append(softmax(scores) @ v[:, part])
    return np.concatenate(out, axis=1)


def causal(length: int) -> np.ndarray:
    return np.triu(np.full((length, length), -np.inf), 1)


def clip_layers(
    w: Weights, name: str, x: np.ndarray, heads: int, bias: np.ndarray | float = 0.0
) -> np.ndarray:
    """Pre-norm blocks of CLIP's towers."""
    layer = 0
    while f"{name}.encoder.layers.{layer}.layer_norm1.weight" in w:
        at = f"{name}.encoder.layers.{layer}"
        h = norm(w, f"{at}.layer_norm1", x, 1e-5)
        q, k, v = (linear(w, f"{at}.self_attn.{part}_proj", h) for part in "qkv")
        x = x + linear(w, f"{at}.self_attn.out_proj", attend(q, k, v, heads, bias))
        h = norm(w, f"{at}.layer_norm2", x, 1e-5)
        x = x + linear(w, f"{at}.mlp.fc2", quick_gelu(linear(w, f"{at}.mlp.fc1", h)))
        layer += 1
    return x


def clip_text(w: Weights, tokens: list[int], heads: int) -> np.ndarray:
    """States after the last norm, [T, D]."""
    name = "text_model"
    x = w[f"{name}.embeddings.token_embedding.weight"][tokens]
    x = x + w[f"{name}.embeddings.position_embedding.weight"][: len(tokens)]
    return norm(w, f"{name}.final_layer_norm", clip_layers(w, name, x, heads, causal(len(tokens))), 1e-5)


def patches(kernel: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """[D, 3, P, P] over [3, H, W] -> [patches, D], row by row."""
    size = kernel.shape[-1]
    return np.stack(
        [
            (kernel * pixels[:, y : y + size, x : x + size]).sum((1, 2, 3))
            for y in range(0, pixels.shape[1], size)
            for x in range(0, pixels.shape[2], size)
        ]
    )


def clip_vision(w: Weights, pixels: np.ndarray, heads: int) -> np.ndarray:
    """All states after the last norm, [1 + patches, D]."""
    name = "vision_model"
    found = patches(w[f"{name}.embeddings.patch_embedding.weight"], pixels)
    x = np.vstack([w[f"{name}.embeddings.class_embedding"], found])
    x = norm(w, f"{name}.pre_layrnorm", x + w[f"{name}.embeddings.position_embedding.weight"], 1e-5)
    return norm(w, f"{name}.post_layernorm", clip_layers(w, name, x, heads), 1e-5)


def t5_bucket(distance: int, buckets: int = 32, longest: int = 128) -> int:
    """The bucket of key position minus query position, in both directions."""
    half = buckets // 2
    side, distance = (half if distance > 0 else 0), abs(distance)
    exact = half // 2
    if distance < exact:
        return side + distance
    far = exact + int(math.log(distance / exact) / math.log(longest / exact) * (half - exact))
    return side + min(far, half - 1)


def t5(w: Weights, name: str, x: np.ndarray, heads: int, seen: np.ndarray) -> np.ndarray:
    """T5's encoder over states [S, D]; only positions `seen` bool[S] are attended to."""

    def rms(at: str, h: np.ndarray) -> np.ndarray:
        return h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-6) * w[f"{at}.weight"]

    table = w[f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    positions = range(len(x))
    bias = np.array([[table[t5_bucket(k - q)] for k in positions] for q in positions]).transpose(2, 0, 1)
    bias = bias + np.where(seen, 0.0, -np.inf)
    layer = 0
    while f"{name}.block.{layer}.layer.0.layer_norm.weight" in w:
        at = f"{name}.block.{layer}.layer"
        h = rms(f"{at}.0.layer_norm", x)
        q, k, v = (linear(w, f"{at}.0.SelfAttention.{part}", h) for part in "qkv")
        x = x + linear(w, f"{at}.0.SelfAttention.o", attend(q, k, v, heads, bias, scale=False))
        h = np.maximum(linear(w, f"{at}.1.DenseReluDense.wi", rms(f"{at}.1.layer_norm", x)), 0)
        x = x + linear(w, f"{at}.1.DenseReluDense.wo", h)
        layer += 1
    return rms(f"{name}.final_layer_norm", x)


def blip_vision(w: Weights, pixels: np.ndarray, heads: int, eps: float) -> np.ndarray:
    """All states after the last norm, [1 + patches, D]."""
    name = "vision_model"
    kernel, bias = (w[f"{name}.embeddings.patch_embedding.{part}"] for part in ("weight", "bias"))
    x = np.vstack([w[f"{name}.embeddings.class_embedding"][0], patches(kernel, pixels) + bias])
    x = x + w[f"{name}.embeddings.position_embedding"][0]
    layer = 0
    while f"{name}.encoder.layers.{layer}.layer_norm1.weight" in w:
        at = f"{name}.encoder.layers.{layer}"
        h = norm(w, f"{at}.layer_norm1", x, eps)
        q, k, v = np.split(linear(w, f"{at}.self_attn.qkv", h), 3, axis=1)
        x = x + linear(w, f"{at}.self_attn.projection", attend(q, k, v, heads))
        h = norm(w, f"{at}.layer_norm2", x, eps)
        x = x + linear(w, f"{at}.mlp.fc2", gelu(linear(w, f"{at}.mlp.fc1", h)))
        layer += 1
    return norm(w, f"{name}.post_layernorm", x, eps)


def blip_text(w: Weights, tokens: list[int], heads: int, picture: np.ndarray | None = None) -> np.ndarray:
    """Post-norm BERT blocks, with cross-attention to the states of a picture where there is one, [T, D]."""
    name, eps = "text_encoder", 1e-12
    x = w[f"{name}.embeddings.word_embeddings.weight"][tokens]
    x = x + w[f"{name}.embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(w, f"{name}.embeddings.LayerNorm", x, eps)

    def block(at: str, h: np.ndarray, other: np.ndarray) -> np.ndarray:
        q = linear(w, f"{at}.self.query", h)
        k, v = (linear(w, f"{at}.self.{part}", other) for part in ("key", "value"))
        mixed = linear(w, f"{at}.output.dense", attend(q, k, v, heads))
        return norm(w, f"{at}.output.LayerNorm", mixed + h, eps)

    layer = 0
    while f"{name}.encoder.layer.{layer}.output.dense.weight" in w:
        at = f"{name}.encoder.layer.{layer}"
        x = block(f"{at}.attention", x, x)
        if picture is not None:
            x = block(f"{at}.crossattention", x, picture)
        h = linear(w, f"{at}.output.dense", gelu(linear(w, f"{at}.intermediate.dense", x)))
        x = norm(w, f"{at}.output.LayerNorm", h + x, eps)
        layer += 1
    return x


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


Encode = Callable[[list[int] | None, np.ndarray | None], np.ndarray]
"""Tokens and pixels (None where there is none) -> a vector of length 1."""
