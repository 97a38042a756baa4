"""A real LLaMA that fits a test: reads llama2.c's checkpoint and vocabulary files into Hugging Face's classes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM


def load_stories(path: Path) -> LlamaForCausalLM:
    """The model of a llama2.c .bin file (version 0: seven int32, then float32 tensors, layer by layer)."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack("7i", data[:28])
    weights = torch.from_numpy(np.frombuffer(data, np.float32, offset=28).copy())
    taken = 0

    def take(*shape: int) -> torch.Tensor:
        nonlocal taken
        size = int(np.prod(shape))
        taken += size
        return weights[taken - size : taken].view(*shape)

    kv = dim * kv_heads // heads
    parts = {
        "embed": take(vocab, dim),
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": halves(take(layers, dim, dim), heads),
        "self_attn.k_proj": halves(take(layers, kv, dim), kv_heads),
        "self_attn.v_proj": take(layers, kv, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
        "norm": take(dim),
    }
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    state = {
        f"model.layers.{i}.{name}.weight": parts[name][i]
        for name in parts
        if "_" in name
        for i in range(layers)
    }
    state |= {"model.embed_tokens.weight": parts["embed"], "model.norm.weight": parts["norm"]}
    model.load_state_dict(state | {"lm_head.weight": parts["embed"]})
    return model.eval()


def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """[L, out, in] from llama2.c's order of rotated pairs (0 1, 2 3, ...) to Hugging Face's (first half, second half)."""
    layers, out, size = weight.shape
    paired = weight.view(layers, heads, out // heads // 2, 2, size)
    return paired.transpose(2, 3).reshape(layers, out, size)


def load_pieces(path: Path) -> list[str]:
    """The pieces of a llama2.c tokenizer.bin: int32 longest, then (float32 score, int32 length, bytes) each."""
    data, at = path.read_bytes(), 4
    pieces = []
    while at < len(data):
        _, length = struct.unpack_from("fi", data, at)
        pieces.append(data[at + 8 : at + 8 + length].decode("utf-8"))
        at += 8 + length
    return pieces
