"""The sample's open_clip model as a folder of transformers' CLIP, for encoders: the same weights, and a tokenizer of bytes.

Its text tower read names of countries of up to 14 bytes between two marks (`train_clip`); a full stop behind a name is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from gemkr.sample.train_clip import END_OF_TEXT, FIRST_BYTE

BLOCKS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def write_flag_clip(models: str | Path, folder: str | Path) -> None:
    """Write weights, configuration, tokenizer and image processor into `folder`, from `flag-vit.*` in the folder `models`."""
    from safetensors.torch import load_file
    from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import BPE
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    settings = json.loads((Path(models) / "flag-vit.json").read_text(encoding="utf-8"))
    model, reading = settings["model_cfg"], settings["preprocess_cfg"]
    vision, text = model["vision_cfg"], model["text_cfg"]
    shared = {"hidden_act": "gelu", "attention_dropout": 0.0}
    config = CLIPConfig(
        text_config={
            **shared, "vocab_size": text["vocab_size"], "hidden_size": text["width"], "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"], "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"], "bos_token_id": FIRST_BYTE, "eos_token_id": END_OF_TEXT,
            "pad_token_id": 0,
        },
        vision_config={
            **shared, "hidden_size": vision["width"], "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"], "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"], "patch_size": vision["patch_size"],
        },
        projection_dim=model["embed_dim"],
    )  # fmt: skip
    clip = CLIPModel(config)
    state = _renamed(load_file(Path(models) / "flag-vit.safetensors"))
    clip.load_state_dict({name: value.float() for name, value in state.items()})
    clip.save_pretrained(folder)
    side = vision["image_size"]
    CLIPImageProcessorPil(
        size={"height": side, "width": side}, do_center_crop=False, image_mean=reading["mean"], image_std=reading["std"],
        crop_size={"height": side, "width": side},
    ).save_pretrained(folder)  # fmt: skip
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    order = {_byte(letter): letter for letter in letters}
    vocabulary = {order[number]: number for number in range(256)} | {
        "<start>": FIRST_BYTE,
        "<end>": END_OF_TEXT,
    }
    tokenizer = Tokenizer(BPE(vocabulary, merges=[]))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\.$"), "")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", FIRST_BYTE), ("<end>", END_OF_TEXT)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<start>", eos_token="<end>"
    ).save_pretrained(folder)


def _byte(letter: str) -> int:
    """The byte that a letter of the byte-level alphabet stands for."""
    code = ord(letter)
    if 33 <= code <= 126 or 161 <= code <= 172 or 174 <= code <= 255:
        return code
    others = [n for n in range(256) if not (33 <= n <= 126 or 161 <= n <= 172 or 174 <= n <= 255)]
    return others[code - 256]


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's tensors under transformers' names."""
    found = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T.contiguous(),
        "text_projection.weight": state["text_projection"].T.contiguous(),
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    for theirs, ours in (
        ("ln_final", "text_model.final_layer_norm"),
        ("visual.ln_pre", "vision_model.pre_layrnorm"),
        ("visual.ln_post", "vision_model.post_layernorm"),
    ):
        found |= {f"{ours}.{part}": state[f"{theirs}.{part}"] for part in ("weight", "bias")}
    for root, ours in (
        ("transformer.resblocks", "text_model"),
        ("visual.transformer.resblocks", "vision_model"),
    ):
        for name, value in state.items():
            if not name.startswith(f"{root}."):
                continue
            number, _, rest = name.removeprefix(f"{root}.").partition(".")
            layer = f"{ours}.encoder.layers.{number}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                for part, third in zip("qkv", value.chunk(3), strict=True):
                    found[f"{layer}.self_attn.{part}_proj.{kind}"] = third.contiguous()
            else:
                module, _, kind = rest.rpartition(".")
                found[f"{layer}.{BLOCKS[module]}.{kind}"] = value
    return found
