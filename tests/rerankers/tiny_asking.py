"""Material to rerank with a tiny random LLaMA whose vocabulary holds Yes, No and the digits."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.config import LlamaConfig
from gemkr.training.llama import build_llama, save_llama

ANIMALS = ["fox", "hen", "otter", "heron", "badger", "mole", "stork", "hare", "toad", "lynx", "seal", "crow"]
PLACES = ["river", "wood", "barn", "meadow", "marsh", "lake"]
DOCUMENTS = [f"the {a} lives in the {PLACES[i % 6]}" + " and eats" * i for i, a in enumerate(ANIMALS)]
MODEL = {"llm": "llm", "lora": None}


def write_material(folder: Path) -> Path:
    """A corpus whose last document has no text, queries, a run over them, and a random LLaMA with weights that matter."""
    words = ["Yes No Yes No Question : Passage : Answer Yes or No . ( 1 ) ( 2 ) 3 4 5 6 7 8 9 (1) (2) (3)"]
    train_vocabulary([*DOCUMENTS, *words] * 20, folder / "t.model", pieces=400)
    tokenizer = load_tokenizer(folder / "t.model")
    torch.manual_seed(0)
    model = build_llama(LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=512), tokenizer)
    with torch.no_grad():
        for weights in (p for p in model.parameters() if p.dim() == 2):
            weights.mul_(8)
    save_llama(model, tokenizer, folder / "llm")
    rows = [{"kid": f"d{i}", "text": text} for i, text in enumerate(DOCUMENTS)]
    rows.append({"kid": "bare", "text": "", "image": "picture"})
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [
        {"query_id": f"q{i}", "question": f"where does the {a} live", "positives": [f"d{i}"]}
        for i, a in enumerate(ANIMALS[:4])
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    lines = [
        f"q{q} Q0 d{(q + 5 * rank) % 12} {rank + 1} {1 / (rank + 1):.4f} first\n"
        for q in range(4)
        for rank in range(8)
    ]
    (folder / "first.trec").write_text("".join(lines))
    return folder


def write_config(folder: Path, reranker: dict, **changes: object) -> Path:
    """An evaluation of the run `first`, reranked by `reranker`."""
    values = {
        "corpus": "corpus.jsonl",
        "queries": "queries.jsonl",
        "output": "out",
        "metrics": ["MRR@10"],
        "retrievers": {
            "first": {"kind": "saved", "run": "first.trec"},
            "again": {"kind": "reranked", "of": "first", "depth": 8, "reranker": reranker},
        },
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path
