"""Material to fine-tune a tiny text-only GeMKR on: eight animals, eight places, a sentence and two clues for each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from gemkr.data.clues import MinedClue, write_clues
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.hf.config import LoraConfig
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.config import LlamaConfig, TrainConfig, TrainDataConfig
from gemkr.training.llama import build_llama, save_llama
from gemkr.training.loop.config import OptimizerConfig

ANIMALS = ["fox", "hen", "otter", "heron", "badger", "mole", "stork", "hare"]
PLACES = ["river", "wood", "barn", "meadow", "marsh", "lake", "field", "hill"]
DOCUMENTS = [f"The {a} lives in the {p} and eats well there." for a, p in zip(ANIMALS, PLACES)]


def write_material(folder: Path) -> Path:
    """A vocabulary, a random LLaMA, queries, and two clues for each: the place alone, and the sentence's opening."""
    train_vocabulary(DOCUMENTS * 20, folder / "t.model", pieces=340)
    tokenizer = load_tokenizer(folder / "t.model")
    torch.manual_seed(0)
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, folder / "llm")
    rows = [
        {"query_id": f"q{i}", "question": f"Where does the {a} live?", "caption": f"a {a}", "answers": [p]}
        for i, (a, p) in enumerate(zip(ANIMALS, PLACES))
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    clues = []
    for i, (text, place) in enumerate(zip(DOCUMENTS, PLACES)):
        tokens = tokenizer.encode(text)
        answer = tokenizer.encode(place)
        at = next(k for k in range(len(tokens)) if tokens[k : k + len(answer)] == answer)
        for start, stop, form in ((at, at + len(answer), "short"), (0, 6, "long")):
            slice_ = tuple(tokens[start:stop])
            clues.append(
                MinedClue(f"q{i}", str(i), start, stop, slice_, tokenizer.decode(slice_), form, 1, place)
            )
    write_clues(folder / "clues.jsonl", clues)
    write_clues(folder / "short.jsonl", [clue for clue in clues if clue.form == "short"])
    write_clues(folder / "twice.jsonl", [dataclasses.replace(c, form="short") for c in clues])
    return folder


def experiment(material: Path, output: Path, **changes) -> TrainConfig:
    config = TrainConfig(
        model=ModelConfig(llm=str(material / "llm"), lora=LoraConfig(r=4, dropout=0.1)),
        data=TrainDataConfig(queries=str(material / "queries.jsonl"), clues=str(material / "clues.jsonl")),
        output=str(output),
        optimizer=OptimizerConfig(lr=1e-2, min_lr=1e-3, warmup_steps=2),
        batch_size=4,
        epochs=3,
        save_every=5,
        log_every=1,
        workers=0,
    )
    return dataclasses.replace(config, **changes)
