"""Crops of pictures at question time for late interaction: those that a region store of the same detector would give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_flmr import save_tiny_text
from tiny_pictures import save_tiny_clip

import gemkr
from gemkr.errors import ModelError, VisionError
from gemkr.sample import models_folder
from gemkr.sample.plan import plan
from gemkr.sample.scenes import render
from gemkr.types import Query
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.config import DetectorConfig, TowerConfig
from gemkr.vision.detect import Detector
from gemkr.vision.encode import load_tower
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.regions import detect_regions, encode_regions
from gemkr.vision.store import RegionStore
from gemkr.vision.store_writer import RegionStoreWriter

pytest.importorskip("ultralytics")

FLAGS = {
    "weights": str(models_folder() / "flags.pt"),
    "regions": 3,
    "confidence": 0.4,
    "overlap": 0.6,
    "image_size": 192,
}
QUESTION = "which one is small"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of the sample, a region store of them, a corpus, and towers of random weights."""
    folder = tmp_path_factory.mktemp("crops")
    save_tiny_text(folder / "bert")
    save_tiny_clip(folder / "clip")
    (folder / "images").mkdir()
    for number, scene in enumerate(plan(3, {"dev": 4})):
        render(scene, 3)[0].save(folder / "images" / f"s{number}.jpg", quality=90)
    models, pictures = models_folder(), PictureFolder(folder / "images")
    tower = load_tower(
        TowerConfig(config=str(models / "flag-vit.json"), weights=str(models / "flag-vit.safetensors"))
    )
    detect_regions(Detector(DetectorConfig(**FLAGS)), pictures, folder / "boxes.jsonl")
    encode_regions(tower, pictures, folder / "boxes.jsonl", folder / "regions", regions=3, margin=0.1)
    texts = ["the red cat", "a big green boat of the house", "which dog", "a photo of the small blue bird"]
    rows = [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def load(
    folder: Path, path: Path, *, crops: int = 2, store: str | None = None, **settings: object
) -> gemkr.LoadedRetriever:
    encoder = {
        "kind": "preflmr", "text": str(folder / "bert"), "vision": str(folder / "clip"), "width": 8, "query_tokens": 8,
        "document_tokens": 12, "image_tokens": 2, "regions": crops,
    }  # fmt: skip
    values = {
        "corpus": str(folder / "corpus.jsonl"), "images": str(folder / "images"), "regions": store, **settings,
        "retrievers": {"own": {"kind": "late_interaction", "encoder": encoder}},
    }  # fmt: skip
    path.write_text(json.dumps(values))
    return gemkr.load(path)


def scores(hits: tuple) -> dict[str, float]:
    return {hit.doc_id: hit.score for hit in hits}


def test_a_given_picture_is_cropped_like_one_of_the_store(folder: Path, tmp_path: Path) -> None:
    store = RegionStore.open(folder / "regions")
    counts = {name: store.get(name).count for name in store_ids(folder)}
    assert len(set(counts.values())) > 1
    by_store = load(folder, tmp_path / "store.yaml", store=str(folder / "regions"))
    by_detector = load(folder, tmp_path / "detector.yaml", detector=FLAGS | {"margin": 0.1})
    for name, count in counts.items():
        path = folder / "images" / f"{name}.jpg"
        (stored,) = by_store.retrieve([Query("q", QUESTION, image=name)], 4)
        found = scores(by_store.ask(QUESTION, path).hits)
        assert found == pytest.approx(scores(stored.hits), abs=1e-5)
        assert scores(by_detector.ask(QUESTION, path).hits) == pytest.approx(found, abs=1e-5)
        image = by_detector.online.add(path)
        encoder = by_detector.retriever.encoder
        vectors = encoder.encode_queries([Query("q", QUESTION, image=image)])
        patches = encoder.network.patches
        assert len(vectors.values) == 8 + 2 + patches + 2 * min(count, 2)
        described = encoder.describe_query(Query("q", QUESTION, image=image))
        boxes = [vector.box for vector in described if vector.text.startswith("region")]
        size = by_detector.online.open(image).size
        expected = np.repeat(store.get(name).boxes[:2] / np.array([*size, *size]), 2, axis=0)
        np.testing.assert_allclose(np.array(boxes).reshape(-1, 4), expected, atol=1e-6)


def store_ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "images").iterdir())


def test_crops_change_what_is_found(folder: Path, tmp_path: Path) -> None:
    """Without crops no detector is asked for."""
    path = folder / "images" / "s0.jpg"
    whole = load(folder, tmp_path / "whole.yaml", crops=0)
    cropped = load(folder, tmp_path / "crops.yaml", detector=FLAGS)
    assert whole.online.regions is None
    assert scores(whole.ask(QUESTION, path).hits) != pytest.approx(scores(cropped.ask(QUESTION, path).hits))
    assert scores(whole.ask(QUESTION).hits) == pytest.approx(scores(cropped.ask(QUESTION).hits))


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "images" / "s0.jpg"
    bare = load(folder, tmp_path / "bare.yaml")
    with pytest.raises(
        ModelError, match=r"no store of regions is known; set regions \(at question time, a detector\)"
    ):
        bare.ask(QUESTION, path)
    with pytest.raises(
        VisionError, match="does not record its detector's settings; encode its regions again, or"
    ):
        load(folder, tmp_path / "rois.yaml", store=str(written_rois(tmp_path)))


def written_rois(folder: Path) -> Path:
    """A store of regions that a data set names: no detector made it."""
    found = [PictureBoxes("s0", (9, 9), np.zeros((0, 4), np.float32), (), ())]
    plan_ = {"detector": "d", "encoder": "e", "margin": 0.0}
    writer = RegionStoreWriter(folder / "named", found, rows=3, width=2, plan=plan_)
    writer.add([np.zeros((0, 2), np.float32)])
    return writer.finish().path
