"""Contrastive training of tiny encoders: sixteen pairs of texts, pictures and both are learned, and a stopped run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_pictures import WORDS, save_pictures, save_tiny_blip, save_tiny_clip
from tiny_vlm import save_tiny_vlm

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError, ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.weights import weights_digest
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.training.contrastive.run import train_encoder
from gemkr.training.loop.log import read_rows

FORMS = ["t", "i", "b"]
"""A text, a picture, both."""
CLIP_FF = {
    "kind": "clip_ff",
    "folder": "clip",
    "heads": 2,
    "head_width": 8,
    "feed_forward": 32,
    "dropout": 0.0,
}
LORA = {"r": 16, "alpha": 32, "dropout": 0.0, "targets": r".*\.(q|k|v|o|gate|up|down)_proj"}
LAMRA = {"template": "lamra", "pool": "before:<emb>"}
ENCODERS = {
    "clip_sf": {"kind": "clip_sf", "folder": "clip"},
    "clip_ff": CLIP_FF,
    "clip_ff_unpadded": {**CLIP_FF, "attend_padding": False},
    "blip_sf": {"kind": "blip_sf", "folder": "blip"},
    "blip_ff": {"kind": "blip_ff", "folder": "blip"},
    "blip_ff_unpadded": {"kind": "blip_ff", "folder": "blip", "attend_padding": False},
    "vlm_last": {"kind": "vlm", "folder": "vlm"},
    "vlm_before": {"kind": "vlm", "folder": "vlm", **LAMRA},
    "vlm_lora": {"kind": "vlm", "folder": "vlm", "adapters": LORA},
    "vlm_dora": {"kind": "vlm", "folder": "vlm", "adapters": {**LORA, "dora": True}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pairs: each query is of one form and its document of another, every pair of forms at least once."""
    folder = tmp_path_factory.mktemp("contrastive")
    save_tiny_clip(folder / "clip")
    save_tiny_blip(folder / "blip")
    save_tiny_vlm(folder / "vlm", "qwen2_vl")
    sides = [f"{side}{number}" for number in range(16) for side in "qd"]
    save_pictures(folder / "images", sides)
    queries, documents = [], []
    for number in range(16):
        of_query, of_document = FORMS[number % 3], FORMS[number // 3 % 3]
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        text = " ".join(words)
        queries.append(
            {
                "query_id": f"q{number}", "question": text if of_query != "i" else "",
                "image": f"q{number}" if of_query != "t" else None, "positives": [f"d{number}"],
                "instruction": "find a photo" if number % 2 else None,
            }
        )  # fmt: skip
        documents.append(
            {
                "id": f"d{number}", "text": " ".join(words[::-1]) + " tree" if of_document != "i" else "",
                "image": f"d{number}" if of_document != "t" else None,
            }
        )  # fmt: skip
    for name, rows in (("queries", queries), ("corpus", documents)):
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def section_of(folder: Path, name: str, **changes: object) -> dict:
    section = ENCODERS[name] | changes
    return section | {"folder": str(folder / section["folder"])}


def configure(folder: Path, output: Path, name: str, **changes: object) -> ContrastiveConfig:
    values = {
        "encoder": section_of(folder, name),
        "corpus": str(folder / "corpus.jsonl"),
        "queries": str(folder / "queries.jsonl"),
        "images": str(folder / "images"),
        "output": str(output),
        "loss": {"temperature": 0.05},
        "optimizer": {"lr": 5e-3, "min_lr": 1e-3, "warmup_steps": 5, "weight_decay": 0.0},
        "batch_size": 16, "epochs": 60, "workers": 0, "save_every": 1000, "log_every": 5,
    }  # fmt: skip
    return from_mapping(values | changes, ContrastiveConfig, "test")


def hits_at_1(folder: Path, encoder: dict, tmp_path: Path) -> float:
    """The share of queries whose own document comes first, retrieved as a user would."""
    values = {
        "queries": str(folder / "queries.jsonl"), "corpus": str(folder / "corpus.jsonl"), "images": str(folder / "images"),
        "output": str(tmp_path / "eval"), "retrievers": {"own": {"kind": "dense", "encoder": encoder, "dtype": "float32"}},
    }  # fmt: skip
    sources = from_mapping(values, EvalConfig, "test").sources()
    rankings = sources.retriever("own").retrieve(sources.queries, 1)
    return (
        sum(r.hits[0].doc_id == q.positives[0] for r, q in zip(rankings, sources.queries, strict=True)) / 16
    )


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_learns_sixteen_pairs(folder: Path, tmp_path: Path, name: str) -> None:
    before = hits_at_1(folder, section_of(folder, name), tmp_path)
    outcome = train_encoder(configure(folder, tmp_path / "run", name))
    assert before < 0.5
    trained = section_of(folder, name, checkpoint=str(outcome.checkpoint))
    assert hits_at_1(folder, trained, tmp_path) == 1.0
