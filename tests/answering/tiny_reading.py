"""Material for a tiny reader: 48 animals, each at home in one of four places, half of them to learn from."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import yaml

from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.config import LlamaConfig
from gemkr.training.llama import build_llama, save_llama

SOUNDS = [
    a + b
    for a in ("fo", "he", "ot", "ba", "mo", "sto", "ra", "ki")
    for b in ("x", "n", "ter", "dge", "le", "rk")
]
PLACES = ["river", "wood", "barn", "meadow"]
HOMES = {animal: PLACES[number % 4] for number, animal in enumerate(SOUNDS)}
MODEL = {"llm": "llm", "lora": None, "train_llm": True, "prompt": {"template": "brief.txt"}}
DOCUMENTS = [f"{animal} home {place}" for animal, place in HOMES.items()]


def write_material(folder: Path) -> Path:
    """A corpus, a vocabulary, a random LLaMA, and questions to learn from, held out, and without answers."""
    train_vocabulary(DOCUMENTS * 10, folder / "t.model", pieces=400)
    tokenizer = load_tokenizer(folder / "t.model")
    torch.manual_seed(0)
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    model = build_llama(size, tokenizer)
    with torch.no_grad():
        for weights in (p for p in model.parameters() if p.dim() == 2):
            weights.mul_(8)  # which suits its width, and learns in a hundred steps
    save_llama(model, tokenizer, folder / "llm")
    (folder / "brief.txt").write_text("{question}\n<ImageHere>\n{passage}\n:\n")
    rows = "".join(f"d{number},{text}\n" for number, text in enumerate(DOCUMENTS))
    (folder / "corpus.csv").write_text(f"kid,text\n{rows}")
    questions = [
        {
            "query_id": f"q{i}",
            "question": f"home of {animal}",
            "answers": [place, f"the {place}"],
        }
        for i, (animal, place) in enumerate(HOMES.items())
    ]
    bare = [{key: row[key] for key in ("query_id", "question")} for row in questions[:3]]
    for name, part in (("train", questions[:24]), ("held", questions[24:]), ("bare", bare)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def training(folder: Path, **changes: object) -> Path:
    """The configuration of a reader, trained whole."""
    values = {
        "model": MODEL,
        "data": {"queries": "train.jsonl", "run": "run/bm25/run.trec", "corpus": "corpus.csv", "passages": 1},
        "output": "reader",
        "optimizer": {"lr": 1e-2, "min_lr": 1e-3, "warmup_steps": 2},
        "batch_size": 16,
        "epochs": 18,
        "save_every": 40,
        "log_every": 1,
        "workers": 0,
    }
    return write_yaml(folder / "train.yaml", values | changes)


def evaluation(folder: Path, *, answer: dict | None = None, **changes: object) -> Path:
    """The configuration of an evaluation with answers."""
    model = MODEL | {"checkpoint": "reader/final"}
    values = {
        "corpus": "corpus.csv",
        "queries": "held.jsonl",
        "output": "out",
        "metrics": ["S@1"],
        "retrievers": {
            "bm25": "bm25",
            "oracle": {"kind": "oracle", "of": "bm25", "depth": 48},
            "again": {"kind": "saved", "run": "run/bm25/run.trec"},
        },
        "evaluate": ["bm25"],
        "answer": {
            "reader": {"kind": "llm", "model": model, "max_tokens": 4, "batch_size": 5},
            "of": ["bm25", "oracle", "closed_book"],
            "depth": 3,
        }
        | (answer or {}),
    }
    return write_yaml(folder / "eval.yaml", values | changes)


def write_yaml(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path
