"""The sample's model as a folder of CLIP gives open_clip's vectors, and finds the scenes of the second task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file

from gemkr.config.files import from_mapping
from gemkr.sample import models_folder
from gemkr.sample.facts import countries
from gemkr.sample.flag_clip import write_flag_clip
from gemkr.sample.plan import Scene, plan
from gemkr.sample.scene_task import write_scene_task
from gemkr.sample.scenes import render
from gemkr.sample.train_clip import name_bytes, to_tensor
from gemkr.training.contrastive.published import EncoderChoice
from gemkr.training.contrastive.run import Material
from gemkr.types import Document, Query
from gemkr.vision.pictures import PictureFolder


def test_the_vectors_are_those_of_open_clip(tmp_path: Path) -> None:
    write_flag_clip(models_folder(), tmp_path / "clip")
    (tmp_path / "images").mkdir()
    picture, _ = render(Scene("scene", "test", ("Kenya",), large=True))
    picture.save(tmp_path / "images" / "scene.png")
    section = {"encoder": {"kind": "clip_sf", "folder": str(tmp_path / "clip")}}
    encoder = from_mapping(section, EncoderChoice, "test").encoder.build(
        Material(PictureFolder(tmp_path / "images"))
    )
    config = json.loads((models_folder() / "flag-vit.json").read_text())
    theirs = open_clip.CLIP(**config["model_cfg"], output_dict=True).eval()
    theirs.load_state_dict(load_file(models_folder() / "flag-vit.safetensors"))
    with torch.no_grad():
        texts = theirs.encode_text(name_bytes(), normalize=True).numpy()
        small = np.array(picture.resize((64, 64), resample=3))[None]
        image = theirs.encode_image(to_tensor(small), normalize=True).numpy()
    ours = encoder.encode_queries([Query(name, name) for name in countries()])
    np.testing.assert_allclose(ours, texts, atol=1e-4)
    found = encoder.encode_documents([Document("scene", image="scene")])
    np.testing.assert_allclose(found, image, atol=1e-4)
    assert countries()[int((ours @ found[0]).argmax())] == "Kenya"


def test_the_task_names_scenes_with_the_flag(tmp_path: Path) -> None:
    rows = [
        {
            "scene": scene.scene_id, "split": scene.split, "large": scene.large,
            "flags": [{"country": country} for country in scene.flags],
        }
        for scene in plan()
    ]  # fmt: skip
    (tmp_path / "scenes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    count = write_scene_task(tmp_path)
    scenes = {scene.scene_id: scene for scene in plan() if scene.split == "test"}
    pool = (tmp_path / "scenes.txt").read_text().split()
    assert set(pool) == set(scenes)
    rows = [json.loads(line) for line in (tmp_path / "scene_queries.jsonl").read_text().splitlines()]
    assert len(rows) == count > 60
    for row in rows:
        assert row["pool"] == "scenes"
        assert row["positives"]
        for scene_id in row["positives"]:
            assert scenes[scene_id].flags == (row["question"],)
    documents = [json.loads(line) for line in (tmp_path / "everything.jsonl").read_text().splitlines()]
    assert {row["id"] for row in documents} > set(pool)
    learned = {
        row["id"] for row in map(json.loads, (tmp_path / "scene_pictures.jsonl").read_text().splitlines())
    }
    assert not learned & set(pool)
    rows = [json.loads(line) for line in (tmp_path / "scene_training.jsonl").read_text().splitlines()]
    assert [row["question"] for row in rows] == list(countries())
    assert all(set(row["positives"]) <= learned and "pool" not in row for row in rows)
