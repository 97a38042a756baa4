"""Tiny vision-language models of random weights in folders, of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_pictures import SIZE, SQUARE, WORDS
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    Idefics3ImageProcessorPil,
    LlavaNextImageProcessorPil,
    LlavaOnevisionImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    SmolVLMImageProcessorPil,
)

SPECIAL = [
    "<pad>",
    "<unk>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
]
ROLES = [
    "system",
    "user",
    "assistant",
    "You",
    "are",
    "helpful",
    "Summarize",
    "above",
    "image",
    "sentence",
    "and",
    "in",
    "one",
    "word",
    ":",
    ".",
    "\n",
]
TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": SIZE, "patch_size": 4,
}  # fmt: skip
SIGLIP = {name: value for name, value in CLIP.items() if name != "model_type"}
VISION = {
    "qwen2_vl": {"embed_dim": 16, "hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2},
    "qwen2_5_vl": {
        "hidden_size": 16, "out_hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 4, "intermediate_size": 24,
        "window_size": 16, "fullatt_block_indexes": [1],
    },
    "qwen3_vl": {
        "hidden_size": 16, "out_hidden_size": 32, "depth": 2, "num_heads": 2, "patch_size": 4, "intermediate_size": 24,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1],
    },
    "llava": CLIP,
    "llava_next": CLIP,
    "llava_onevision": {**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
    "idefics3": SIGLIP,
    "smolvlm": SIGLIP,
}  # fmt: skip


def save_tiny_vlm(folder: Path, family: str, words: list[str] = WORDS) -> Path:
    """A model of a family, with a tokenizer of words and an image processor."""
    folder.mkdir(parents=True)
    vocab = list(dict.fromkeys([*SPECIAL, *ROLES, *words]))
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocab)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="<|im_end|>"
    )
    mark = "<|vision_start|><|image_pad|><|vision_end|>" if family.startswith("qwen") else "<|image_pad|>"
    tokenizer.chat_template = CHAT.replace("IMAGE", mark)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    tokenizer.save_pretrained(folder)
    ids = {name: vocab.index(f"<|{token}|>") for name, token in (
        ("vision_start_token_id", "vision_start"), ("vision_end_token_id", "vision_end"), ("image_token_id", "image_pad"),
        ("video_token_id", "video_pad"),
    )}  # fmt: skip
    text = {**TEXT, "vocab_size": len(vocab) + 1}
    image = {"image_token_id": ids["image_token_id"]}
    if family.startswith("llava"):
        text["model_type"] = "llama"
        if family == "llava":
            CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SQUARE).save_pretrained(folder)
        else:
            image["image_grid_pinpoints"] = [[SIZE, 2 * SIZE], [2 * SIZE, SIZE], [2 * SIZE, 2 * SIZE]]
            settings: dict[str, Any] = {"size": {"shortest_edge": SIZE}, "crop_size": SQUARE}
            processor = LlavaNextImageProcessorPil
            if family == "llava_onevision":
                text["model_type"], image["vision_aspect_ratio"] = "qwen2", "anyres_max_2"
                settings, processor = {"size": SQUARE}, LlavaOnevisionImageProcessorPil
            processor(**settings, image_grid_pinpoints=image["image_grid_pinpoints"]).save_pretrained(folder)
        config = AutoConfig.for_model(family, text_config=text, vision_config=VISION[family], **image)
    elif family in ("idefics3", "smolvlm"):
        text["model_type"] = "llama"
        config = AutoConfig.for_model(
            family, text_config=text, vision_config=VISION[family], scale_factor=2, **image
        )
        processor = Idefics3ImageProcessorPil if family == "idefics3" else SmolVLMImageProcessorPil
        processor(size={"longest_edge": 2 * SIZE}, max_image_size={"longest_edge": SIZE}).save_pretrained(
            folder
        )
    else:
        # parts of half a head's frequencies, as the models have them: time, height, width
        rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10_000.0}
        if family == "qwen3_vl":
            text |= {"head_dim": 8}
        config = AutoConfig.for_model(
            family, text_config={**text, "rope_parameters": rope}, vision_config=VISION[family], **ids
        )
        size = {"shortest_edge": 64, "longest_edge": 1024}
        Qwen2VLImageProcessorPil(size=size, patch_size=4, merge_size=2).save_pretrained(folder)
    torch.manual_seed(7)
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.get_output_embeddings().weight.mul_(8)  # so that it can be sure of a token
    model.save_pretrained(folder)
    return folder
