"""A toy corpus, its index, a LLaMA of random weights, a checkpoint, pictures, and an evaluation over all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from generative_material import TEXTS, build_index
from PIL import Image

from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.hf.config import LoraConfig
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import save_checkpoint
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.config import LlamaConfig
from gemkr.training.pretrain import build_llama, save_llama


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its index, an LLM folder with random weights and a checkpoint; pictures of two of three queries."""
    folder = tmp_path_factory.mktemp("material")
    train_vocabulary(TEXTS * 20, folder / "t.model", pieces=340)
    tokenizer = load_tokenizer(folder / "t.model")
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, folder / "llm")
    (folder / "corpus.csv").write_text(
        "kid,text\n" + "".join(f'd{i},"{text}"\n' for i, text in enumerate(TEXTS))
    )
    build_index(folder / "corpus.fmi", tokenizer, TEXTS)
    rows = [
        {"query_id": str(i), "question": "What is it?", "image": f"p{i}", "answers": ["tea"]}
        for i in range(3)
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "images").mkdir()
    for i in range(2):
        Image.fromarray(np.full((48, 48, 3), 90 * i, dtype=np.uint8)).save(folder / "images" / f"p{i}.png")
    vit = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
    }
    (folder / "vit.json").write_text(json.dumps(vit))
    config = ModelConfig(llm=str(folder / "llm"), lora=LoraConfig(r=2))
    model = load_gemkr(config)
    settings = {"model": {"lora": {"r": 2, "alpha": 16, "dropout": 0.0, "targets": LoraConfig().targets}}}
    origin = Origin("gemkr", tokenizer.fingerprint(), "data", settings)
    save_checkpoint(folder / "final", origin, model.trained_state())
    (folder / "eval.yaml").write_text(
        f"queries: {folder}/queries.jsonl\ncorpus: {folder}/corpus.csv\noutput: out\nmetrics: [P@5, S@5, D@10]\n"
        "retrievers:\n  bm25: {kind: bm25}\n  free_text: {kind: free_text, of: gemkr}\n"
        "  random_in_span: {kind: rescored, of: gemkr, scoring: {method: random_document}}\n"
        "  coverage_alone: {kind: rescored, of: gemkr, scoring: {inside_span: random, second_weight: 1.0e-9}}\n"
        "  same: {kind: rescored, of: gemkr}\n  seal: {kind: rescored, of: gemkr, scoring: {method: seal}}\n"
        f"  gemkr:\n    kind: generative\n    index: {folder}/corpus.fmi\n"
        f"    model: {{llm: {folder}/llm, lora: {{r: 2}}, checkpoint: {folder}/final}}\n"
        "    decoding: {beam_size: 4, groups: 2, max_tokens: 6}\n"
        "evaluate: [gemkr]\n"
    )
    return folder
