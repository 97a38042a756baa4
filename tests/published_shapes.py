"""Names and shapes of published checkpoints, as tensors without memory: written down from the public models, not from our mapping."""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}{name}": shape for name, shape in shapes.items()}


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def openai_clip_large(*, projected: bool) -> Shapes:
    """OpenAI's ViT-L/14: pictures of 224, 24 layers of 1024; texts of 77 tokens, 12 layers of 768."""
    shapes: Shapes = {
        "visual.class_embedding": (1024,), "visual.positional_embedding": (257, 1024), "visual.proj": (1024, 768),
        "visual.conv1.weight": (1024, 3, 14, 14), "token_embedding.weight": (49408, 768), "positional_embedding": (77, 768),
        "logit_scale": (), **norm("visual.ln_pre", 1024), **norm("visual.ln_post", 1024), **norm("ln_final", 768),
    }  # fmt: skip
    if projected:
        shapes["text_projection"] = (768, 768)
    for tower, layers, width in (("visual.", 24, 1024), ("", 12, 768)):
        for layer in range(layers):
            block = f"{tower}transformer.resblocks.{layer}"
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,),
                **linear(f"{block}.attn.out_proj", width, width), **norm(f"{block}.ln_1", width), **norm(f"{block}.ln_2", width),
                **linear(f"{block}.mlp.c_fc", 4 * width, width), **linear(f"{block}.mlp.c_proj", width, 4 * width),
            }  # fmt: skip
    return shapes


def clip_large(*, fused: bool) -> Shapes:
    """UniIR's CLIP_SF Large, and with `fused` CLIP_FF Large with two layers of T5: 12 heads of 64, 2048 between."""
    shapes = prefixed("clip_model.", openai_clip_large(projected=not fused))
    if not fused:
        return shapes
    for layer in range(2):
        block = f"t5_layers.block.{layer}.layer"
        shapes |= {f"{block}.0.SelfAttention.{letter}.weight": (768, 768) for letter in "qkvo"}
        shapes |= {f"{block}.{part}.layer_norm.weight": (768,) for part in (0, 1)}
        shapes |= {
            f"{block}.1.DenseReluDense.wi.weight": (2048, 768), f"{block}.1.DenseReluDense.wo.weight": (768, 2048)
        }  # fmt: skip
    shapes["t5_layers.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, 12)
    return shapes | {
        "t5_layers.final_layer_norm.weight": (768,),
        "t5_layers.embed_tokens.weight": (32128, 768),
    }


def bert_attention(name: str, seen: int) -> Shapes:
    """Of a BERT of 768, over states of `seen` numbers."""
    return {
        **linear(f"{name}.self.query", 768, 768), **linear(f"{name}.self.key", 768, seen), **linear(f"{name}.self.value", 768, seen),
        **linear(f"{name}.output.dense", 768, 768), **norm(f"{name}.output.LayerNorm", 768),
    }  # fmt: skip


def bert_layer(name: str, cross: int | None) -> Shapes:
    """With `cross`, it also attends to states of that many numbers."""
    return {
        **bert_attention(f"{name}.attention", 768),
        **({} if cross is None else bert_attention(f"{name}.crossattention", cross)),
        **linear(f"{name}.intermediate.dense", 3072, 768), **linear(f"{name}.output.dense", 768, 3072), **norm(f"{name}.output.LayerNorm", 768),
    }  # fmt: skip


def bert_base(vocabulary: int, *, cross: int | None, types: bool) -> Shapes:
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, 768), "embeddings.position_embeddings.weight": (512, 768),
        "embeddings.position_ids": (1, 512), **norm("embeddings.LayerNorm", 768),
    }  # fmt: skip
    if types:
        shapes["embeddings.token_type_embeddings.weight"] = (2, 768)
    for layer in range(12):
        shapes |= bert_layer(f"encoder.layer.{layer}", cross)
    return shapes


def blip_large(*, fused: bool) -> Shapes:
    """UniIR's BLIP_SF Large, and with `fused` BLIP_FF Large: ViT-L/16 at 224, BERT-base that sees it, copies and queues."""
    vision: Shapes = {
        "cls_token": (1, 1, 1024), "pos_embed": (1, 197, 1024), "patch_embed.proj.weight": (1024, 3, 16, 16),
        "patch_embed.proj.bias": (1024,), **norm("norm", 1024),
    }  # fmt: skip
    for layer in range(24):
        block = f"blocks.{layer}"
        vision |= {
            **norm(f"{block}.norm1", 1024), **norm(f"{block}.norm2", 1024), **linear(f"{block}.attn.qkv", 3072, 1024),
            **linear(f"{block}.attn.proj", 1024, 1024), **linear(f"{block}.mlp.fc1", 4096, 1024),
            **linear(f"{block}.mlp.fc2", 1024, 4096),
        }  # fmt: skip
    text = bert_base(30524, cross=1024, types=False)
    parts = {"visual_encoder": vision, "text_encoder": text}
    if fused:
        text |= linear("pooler.dense", 768, 768)
    else:
        parts |= {
            "vision_proj": {"weight": (768, 1024), "bias": (768,)},
            "text_proj": {"weight": (768, 768), "bias": (768,)},
        }
    shapes: Shapes = {
        "temp": (), "query_queue": (768, 57600), "cand_queue": (768, 57600), "idx_queue": (1, 57600), "new_ptr_queue": (1,)
    }  # fmt: skip
    for name, part in parts.items():
        shapes |= prefixed(f"{name}.", part) | prefixed(f"{name}_m.", part)
    return shapes


QWEN2_VL = {"2B": (1536, 8960, 12, 2), "7B": (3584, 18944, 28, 4)}
"""Width, width between, heads and key heads (of 128) of 28 layers."""


def qwen2_vl_adapters(size: str, r: int, modules: list[str], *, dora: bool) -> Shapes:
    """peft's adapters on a Qwen2-VL of transformers before 4.52."""
    width, between, heads, key_heads = QWEN2_VL[size]
    sides = {
        "q_proj": (128 * heads, width), "k_proj": (128 * key_heads, width), "v_proj": (128 * key_heads, width),
        "o_proj": (width, 128 * heads), "gate_proj": (between, width), "up_proj": (between, width), "down_proj": (width, between),
    }  # fmt: skip
    shapes: Shapes = {}
    for layer in range(28):
        for module in modules:
            outputs, inputs = sides[module]
            part = "self_attn" if module in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            name = f"base_model.model.model.layers.{layer}.{part}.{module}"
            shapes |= {f"{name}.lora_A.weight": (r, inputs), f"{name}.lora_B.weight": (outputs, r)}
            if dora:
                shapes[f"{name}.lora_magnitude_vector"] = (outputs,)
    return shapes


def preflmr_large() -> Shapes:
    """PreFLMR_ViT-L: two BERT-base of ColBERTv2, OpenAI's ViT-L/14, vectors of 128 numbers, 32 a picture, one mapping layer."""
    vision: Shapes = {
        "embeddings.class_embedding": (1024,), "embeddings.patch_embedding.weight": (1024, 3, 14, 14),
        "embeddings.position_embedding.weight": (257, 1024), "embeddings.position_ids": (1, 257),
        **norm("pre_layrnorm", 1024), **norm("post_layernorm", 1024),
    }  # fmt: skip
    for layer in range(24):
        block = f"encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            vision |= linear(f"{block}.self_attn.{part}", 1024, 1024)
        vision |= {
            **norm(f"{block}.layer_norm1", 1024), **norm(f"{block}.layer_norm2", 1024),
            **linear(f"{block}.mlp.fc1", 4096, 1024), **linear(f"{block}.mlp.fc2", 1024, 4096),
        }  # fmt: skip
    text = bert_base(30522, cross=None, types=True) | linear("pooler.dense", 768, 768)
    shapes: Shapes = {
        **linear("transformer_mapping_input_linear", 768, 1024), **linear("transformer_mapping_output_linear", 128, 768),
        **bert_layer("transformer_mapping_network.layer.0", 768),
        **linear("context_vision_projection.model.0", 2048, 1024), **linear("context_vision_projection.model.2", 4096, 2048),
        **prefixed("context_vision_encoder.vision_model.vision_model.", vision),
    }  # fmt: skip
    for side in ("query", "context"):
        shapes[f"{side}_text_encoder_linear.weight"] = (128, 768)
        shapes |= prefixed(f"{side}_text_encoder.bert_model.", text)
    return shapes
