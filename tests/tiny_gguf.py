"""Tiny GGUF files, written with the package gguf as llama.cpp's converter writes them: a LLaMA of random weights and a
byte-level vocabulary of the toy corpus."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from toy_text import train_byte_level
from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, HEADS, KEY_HEADS, LAYERS = 64, 4, 2, 2
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_llama(vocab_size: int, *, tied: bool = True) -> LlamaForCausalLM:
    """Random weights; grouped heads, so that queries and keys are reordered unlike each other."""
    torch.manual_seed(7)
    size = LlamaConfig(
        vocab_size=vocab_size, hidden_size=HIDDEN, intermediate_size=96, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS, max_position_embeddings=128, tie_word_embeddings=tied, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(size).eval()


def write_gguf(
    path: Path,
    *,
    kind: Kind = Kind.F32,
    architecture: str = "llama",
    pre: str = "smollm",
    tied: bool = True,
    without: str | None = None,
    scaled: bool = False,
    beside: str | None = None,
    heads: int = HEADS,
) -> LlamaForCausalLM:
    """Write a file and return the model in it. Matrices are stored as `kind`; `without` names a tensor that is left out, `beside`
    one that is added; the file says that it has so many `heads`."""
    folder = train_byte_level(path.with_suffix(".tokenizer"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())
    tokens = sorted(vocabulary["model"]["vocab"], key=vocabulary["model"]["vocab"].get)
    model = tiny_llama(len(tokens), tied=tied)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(96)
    writer.add_head_count(heads)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    if scaled:
        writer.add_rope_scaling_factor(8.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges([" ".join(merge) for merge in vocabulary["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, weights in model.state_dict().items():
        stored = _name(name)
        if stored != without and not (tied and name == "lm_head.weight"):
            _add(writer, stored, weights, kind)
    if beside is not None:
        writer.add_tensor(beside, np.ones(HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _name(name: str) -> str:
    for own, stored in NAMES.items():
        if own in name:
            return f"blk.{name.split('.')[2]}.{stored}.weight"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}.get(
        name, "output.weight"
    )


def _add(writer: gguf.GGUFWriter, name: str, weights: torch.Tensor, kind: Kind) -> None:
    for part, heads in (("attn_q.", HEADS), ("attn_k.", KEY_HEADS)):
        if part in name:  # llama.cpp turns neighbouring pairs, transformers halves
            weights = weights.reshape(heads, 2, -1, HIDDEN).swapaxes(1, 2).reshape(weights.shape)
    values = np.ascontiguousarray(weights.float().numpy())
    if values.ndim == 1 or kind is Kind.F32:
        writer.add_tensor(name, values)
    elif kind is Kind.Q8_K:  # nothing in Python writes its blocks
        rows, width = values.shape
        blocks = np.zeros((rows * width // 256 or 1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
        writer.add_tensor(name, blocks, raw_dtype=kind)
    else:
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
