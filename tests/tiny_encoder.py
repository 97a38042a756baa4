"""A BERT of a few thousand random weights in a folder, to stand for a pre-trained text encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_tiny_encoder(folder: Path, words: list[str], *, positions: int = 40, layers: int = 2) -> Path:
    """An encoder of 24 numbers a state that knows `words` (and any other as [UNK]), with its tokenizer."""
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *dict.fromkeys(words)]) + "\n")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(3)
    size = BertConfig(
        vocab_size=len(SPECIAL) + len(set(words)), hidden_size=24, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=positions,
    )  # fmt: skip
    BertModel(size).save_pretrained(folder)
    return folder
