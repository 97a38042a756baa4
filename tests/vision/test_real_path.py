"""The whole path with real formats in miniature: detect, encode, one training step, save, resume, load, decode."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gemkr.data.clues import MinedClue, write_clues
from gemkr.data.queries import read_queries
from gemkr.decoding.config import DecodingConfig
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.config import ModelConfig, PrefixConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.hf.config import LoraConfig
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.config import LlamaConfig, TrainConfig, TrainDataConfig
from gemkr.training.finetune import finetune
from gemkr.training.llama import build_llama, save_llama
from gemkr.training.loop.log import read_rows
from gemkr.types import Query, Ranking
from gemkr.vision.config import DetectorConfig, TowerConfig
from gemkr.vision.detect import Detector
from gemkr.vision.encode import load_tower
from gemkr.vision.extractor import RegionExtractor
from gemkr.vision.online import OnlinePictures
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.protocols import Pictures, Regions
from gemkr.vision.regions import detect_regions, encode_regions
from gemkr.vision.store import RegionStore

DOCUMENTS = [
    "The Airbus is an airliner that carries many people.",
    "A donut is a ring of fried dough with sugar on it.",
    "The stop sign tells drivers to halt at a crossing.",
    "A baseball glove protects the hand of the catcher.",
]
YOLO = """
nc: 2
scales: {n: [0.33, 0.125, 1024]}
backbone: [[-1, 1, Conv, [64, 3, 2]], [-1, 1, Conv, [128, 3, 2]], [-1, 1, Conv, [256, 3, 2]]]
head: [[[2], 1, Detect, [nc]]]
"""
VIT = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 24, "head_width": 8, "patch_size": 16},
}
EVA = {
    "embed_dim": 8,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "eva02_tiny_patch14_224",
        "timm_pool": "token",
        "timm_proj": None,
    },
}


def prepare(folder: Path, tokenizer_file: Path, tower: dict) -> tuple[ModelConfig, Detector]:
    """Base models with random weights, pictures, regions, queries and clues in `folder`; the detector of the regions."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(tokenizer_file)
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    save_llama(build_llama(size, tokenizer), tokenizer, folder / "llm")
    (folder / "tower.json").write_text(json.dumps(tower))
    visual = load_tower(TowerConfig(config=str(folder / "tower.json"))).visual
    own = {f"visual.{name}": value for name, value in visual.state_dict().items()}
    head = {"visual.proj": torch.zeros(24, 8)} if tower is VIT else {
        "visual.trunk.head.weight": torch.zeros(8, 192), "visual.trunk.head.bias": torch.zeros(8)
    }  # fmt: skip
    torch.save(own | head, folder / "tower.pt")
    config = TowerConfig(config=str(folder / "tower.json"), weights=str(folder / "tower.pt"))
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    queries, clues = [], []
    for i, text in enumerate(DOCUMENTS):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            folder / "images" / f"p{i}.png"
        )
        queries.append({"query_id": f"q{i}", "question": "What is this?", "image": f"p{i}"})
        tokens = tuple(tokenizer.encode(text)[:5])
        clues.append(MinedClue(f"q{i}", str(i), 0, 5, tokens, tokenizer.decode(tokens), "long", 1, None))
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    write_clues(folder / "clues.jsonl", clues)
    (folder / "tinyn.yaml").write_text(YOLO)
    detector = Detector(DetectorConfig(str(folder / "tinyn.yaml"), regions=3, confidence=0.0, image_size=64))
    pictures = PictureFolder(folder / "images")
    detect_regions(detector, pictures, folder / "boxes.jsonl", batch=2)
    store, _ = encode_regions(
        load_tower(config), pictures, folder / "boxes.jsonl", folder / "store", regions=3
    )
    assert len(store) == 4
    model = ModelConfig(
        llm=str(folder / "llm"), tower=config, prefix=PrefixConfig(blocks=2, rows=3), lora=LoraConfig(r=2)
    )
    return model, detector


def walk(folder: Path, model: ModelConfig, detector: Detector) -> None:
    """One step, save, resume to a second step, load for evaluation, decode under the index, offline and online."""
    config = TrainConfig(
        model=model,
        data=TrainDataConfig(
            queries=str(folder / "queries.jsonl"),
            clues=str(folder / "clues.jsonl"),
            images=str(folder / "images"),
            regions=str(folder / "store"),
        ),
        output=str(folder / "run"),
        batch_size=2,
        epochs=1,
        save_every=1,
        log_every=1,
        workers=0,
    )
    finetune(config)
    whole = [row["loss"] for row in read_rows(config.output) if "loss" in row]
    final = read_checkpoint(folder / "run" / "final").weights
    assert len(whole) == 2
    assert any("lora" in name for name in final)
    assert any(name.endswith("gate") for name in final)
    shutil.rmtree(folder / "run" / "final")
    finetune(config, resume=folder / "run" / "step-000001")
    assert [row["loss"] for row in read_rows(config.output) if "loss" in row] == whole
    again = read_checkpoint(folder / "run" / "final").weights
    assert final.keys() == again.keys()
    assert all(torch.equal(final[name], again[name]) for name in final)
    start = load_gemkr(model).trained_state()
    assert all(name in start for name in final)
    assert any(not torch.equal(final[name], start[name]) for name in final if name.endswith("gate"))

    loaded = load_model(replace(model, checkpoint=str(folder / "run" / "final")))
    index = FMIndex.build([loaded.tokenizer.encode(text) for text in DOCUMENTS], tokenizer=loaded.tokenizer)
    store, pictures = RegionStore.open(folder / "store"), PictureFolder(folder / "images")

    def rank(images: Pictures, regions: Regions, queries: list[Query]) -> list[Ranking]:
        retriever = GenerativeRetriever(
            loaded,
            index,
            loaded.tokenizer,
            loaded.input_builder(images, regions),
            DecodingConfig(beam_size=4, groups=4, max_tokens=4),
            ScoringConfig(inside_span=None),
        )
        return list(retriever.retrieve(queries, 4))

    queries = list(read_queries(folder / "queries.jsonl"))
    rankings = rank(pictures, store, queries)
    online = OnlinePictures(RegionExtractor(detector, loaded.tower.tower, store.rows))
    given = [replace(query, image=online.add(pictures.path(query.image))) for query in queries]
    assert rank(online, online.regions, given) == rankings
    assert [ranking.query_id for ranking in rankings] == ["q0", "q1", "q2", "q3"]
    for ranking in rankings:
        assert ranking.hits
        assert ranking.clues
        assert all(index.search(clue.tokens) == clue.span for clue in ranking.clues)
        assert all(clue.span.count > 0 for clue in ranking.clues)


@pytest.mark.parametrize("tower", [VIT, EVA], ids=["open_clip", "timm_eva"])
def test_the_path_with_a_small_vocabulary(tmp_path: Path, tower: dict) -> None:
    pytest.importorskip("ultralytics")
    train_vocabulary(DOCUMENTS * 20, tmp_path / "t.model", pieces=340)
    walk(tmp_path, *prepare(tmp_path, tmp_path / "t.model", tower))


@pytest.mark.shared
def test_the_path_with_the_llama_tokenizer(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("ultralytics")
    walk(tmp_path, *prepare(tmp_path, shared_data / "llama_tokenizer" / "tokenizer.model", VIT))
