"""A LLaVA over the sample's vision tower, with a language model of random weights that knows the names of countries: what the
quickstart's VLM embedder starts from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SPECIAL = ("<pad>", "<unk>", "</s>", "<image>", ":")
WIDTH, LAYERS, HEADS, POSITIONS = 64, 2, 4, 128


def write_small_vlm(folder: str | Path, clip: str | Path, texts: Iterable[str]) -> int:
    """Write weights, the same ones every time, image processor and a tokenizer of whole words in lower case, from a CLIP folder of
    `write_flag_clip`; returns the number of words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import (
        CLIPImageProcessorPil,
        CLIPModel,
        LlavaConfig,
        LlavaForConditionalGeneration,
        PreTrainedTokenizerFast,
    )

    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    tower = CLIPModel.from_pretrained(clip).vision_model
    config = LlavaConfig(
        text_config={
            "model_type": "llama", "vocab_size": len(vocabulary), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
            "max_position_embeddings": POSITIONS,
        },
        vision_config=tower.config, image_token_id=vocabulary["<image>"], vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
    seeing = model.model.vision_tower
    getattr(seeing, "vision_model", seeing).load_state_dict(tower.state_dict())
    model.save_pretrained(folder)
    CLIPImageProcessorPil.from_pretrained(clip).save_pretrained(folder)
    return len(words)
