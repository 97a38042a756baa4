"""A BERT of random weights that knows the words of the sample: what the quickstart's preflmr learns to read with."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]")
WIDTH, LAYERS, HEADS, POSITIONS = 64, 2, 4, 64


def write_small_bert(folder: str | Path, texts: Iterable[str]) -> int:
    """Write weights, the same ones every time, and a tokenizer of whole words in lower case; returns the number of words."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    words = sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())})
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]) + "\n", encoding="utf-8")
    BertTokenizerFast(
        vocab=str(folder / "vocab.txt"), do_lower_case=True, strip_accents=False
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(words), hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH, max_position_embeddings=POSITIONS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    return len(words)


def texts_of(folder: str | Path) -> Iterator[str]:
    """The passages and training questions of a folder of `materialize`."""
    folder = Path(folder)
    for _, text in csv.reader((folder / "corpus.csv").open(encoding="utf-8", newline="")):
        yield text
    for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)["question"]
