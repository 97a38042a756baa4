"""Tiny CLIP, BLIP and vision-language models of random weights in folders, and pictures for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from tiny_encoder import SPECIAL
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForImageTextRetrieval,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
)

from gemkr.types import Document, Query
from gemkr.vision.pictures import PictureFolder

WORDS = [
    "find",
    "a",
    "photo",
    "of",
    "the",
    "red",
    "blue",
    "green",
    "small",
    "big",
    "cat",
    "dog",
    "bird",
    "house",
    "tree",
    "boat",
    "which",
    "one",
    "is",
]
SIZE = 16
SQUARE = {"height": SIZE, "width": SIZE}


def save_pictures(folder: Path, names: list[str]) -> PictureFolder:
    """Pictures of four coloured quarters, one for each name, of unlike shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        random = np.random.default_rng(number)
        quarters = random.integers(0, 256, (2, 2, 3), np.uint8)
        size = (24 + 8 * (number % 3), 32)
        Image.fromarray(quarters).resize(size, Image.Resampling.NEAREST).save(folder / f"{name}.png")
    return PictureFolder(folder)


def save_tokenizer(folder: Path, words: list[str]) -> int:
    """A tokenizer of words in a folder, and the size of its vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *dict.fromkeys(words)]) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return len(SPECIAL) + len(set(words))


def save_tiny_clip(
    folder: Path, words: list[str] = WORDS, *, text_width: int = 24, space: int = 24, dropout: float = 0.0
) -> Path:
    """A CLIP of two layers a tower; the text tower pools at [SEP], the vision tower may drop attention."""
    vocab = save_tokenizer(folder, words)
    torch.manual_seed(5)
    config = CLIPConfig(
        text_config={
            "vocab_size": vocab, "hidden_size": text_width, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "max_position_embeddings": 20, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 20, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIZE,
            "patch_size": 8, "attention_dropout": dropout,
        },
        projection_dim=space,
    )  # fmt: skip
    _disturb(CLIPModel(config)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size=SQUARE).save_pretrained(folder)
    return folder


def save_tiny_blip(folder: Path, words: list[str] = WORDS, *, dropout: float = 0.1) -> Path:
    """A BLIP of two layers a tower, with cross-attention."""
    vocab = save_tokenizer(folder, words)
    torch.manual_seed(6)
    config = BlipConfig(
        text_config={
            "vocab_size": vocab, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 24, "encoder_hidden_size": 20, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3,
            "pad_token_id": 0, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout, "is_decoder": True,
        },
        vision_config={
            "hidden_size": 20, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIZE,
            "patch_size": 8,
        },
        image_text_hidden_size=28,
    )  # fmt: skip
    _disturb(BlipForImageTextRetrieval(config)).save_pretrained(folder)
    BlipImageProcessorPil(size=SQUARE).save_pretrained(folder)
    return folder


def _disturb(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that an error in any of them shows, biases among them."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def sources_of(pictures: PictureFolder | None) -> SimpleNamespace:
    """As much of `Sources` as an encoder needs that starts from its folder."""
    return SimpleNamespace(pictures=pictures)


def queries_and_documents() -> tuple[list[Query], list[Document]]:
    """A text, a picture, and both, with and without an instruction, of unlike lengths."""
    queries = [
        Query("t", "a red cat", instruction="find a photo"),
        Query("i", image="one"),
        Query("ii", image="two", instruction="which one is small"),
        Query("b", "the small dog of the big green house", image="three"),
    ]
    documents = [
        Document("t", "the blue bird"),
        Document("i", image="two"),
        Document("b", "a boat", "tree", image="one"),
        Document("l", "a photo of the small red cat which is the big green tree"),
    ]
    return queries, documents
