"""A tiny BERT (or XLM-R) with FLMR's markers, pictures and a store of their regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny_pictures import WORDS, save_tokenizer
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizer

from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore
from gemkr.vision.store_writer import RegionStoreWriter

MARKED = ["[unused0]", "[unused1]", ":", ",", ".", "?", *WORDS]


def save_tiny_text(
    folder: Path,
    words: list[str] = MARKED,
    *,
    kind: str = "bert",
    layers: int = 2,
    positions: int = 40,
    dropout: float = 0.0,
) -> Path:
    """A text tower of 24 numbers a state with its tokenizer."""
    vocab = save_tokenizer(folder, words)
    torch.manual_seed(4)
    config, model = (BertConfig, BertModel) if kind == "bert" else (XLMRobertaConfig, XLMRobertaModel)
    sizes = config(
        vocab_size=vocab, hidden_size=24, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=positions, pad_token_id=0, type_vocab_size=2, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    tower = model(sizes)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    tower.save_pretrained(folder)
    return folder


def save_tiny_xlmr(folder: Path, pieces: list[str]) -> Path:
    """An XLM-R of 24 numbers a state as bge-m3 is: ids from <s> 0, <pad> 1, one kind of segment, pieces of SentencePiece with ▁."""
    vocab = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
    vocab += [(piece, -3.0) for piece in dict.fromkeys(pieces)]
    tokenizer = XLMRobertaTokenizer(vocab=[*vocab, ("<mask>", 0.0)])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(4)
    sizes = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=42, type_vocab_size=1, layer_norm_eps=1e-5, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    XLMRobertaModel(sizes).save_pretrained(folder)
    return folder


def save_regions(folder: Path, pictures: PictureFolder, boxes: dict[str, list[list[float]]]) -> RegionStore:
    """A region store of these boxes, whose features nobody reads."""
    found = []
    for image, rows in boxes.items():
        own = np.array(rows, np.float32).reshape(-1, 4)
        names = tuple(f"thing {i}" for i in range(len(own)))
        found.append(PictureBoxes(image, pictures.open(image).size, own, names, (0.5,) * len(own)))
    writer = RegionStoreWriter(
        folder, found, rows=3, width=2, plan={"detector": "d", "encoder": "e", "margin": 0.0}
    )
    writer.add([np.zeros((len(one.boxes), 2), np.float32) for one in found])
    return writer.finish()
