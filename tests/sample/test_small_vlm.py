"""The quickstart's small LLaVA sees with the sample's tower, knows every country's name, and is the same one every time."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from tiny_pictures import sources_of
from transformers import CLIPModel

from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.models.hf.vlm import VlmEncoder
from gemkr.sample import models_folder
from gemkr.sample.facts import countries
from gemkr.sample.flag_clip import write_flag_clip
from gemkr.sample.small_vlm import write_small_vlm
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.types import Document, Query
from gemkr.vision.pictures import PictureFolder


def test_it_reads_names_and_scenes(tmp_path: Path, monkeypatch) -> None:
    write_flag_clip(models_folder(), tmp_path / "clip")
    assert write_small_vlm(tmp_path / "llava", tmp_path / "clip", countries()) > 70
    write_small_vlm(tmp_path / "again", tmp_path / "clip", countries())
    Image.new("RGB", (200, 200), "red").save(tmp_path / "scene.png")
    monkeypatch.setenv("GEMKR_QUICKSTART", str(tmp_path))
    section = load_config(find_config("quickstart_vlm", "train"), ContrastiveConfig).encoder
    assert section.cls is VlmEncoder
    encoder, again = (
        VlmEncoder.from_config(
            VlmEncoder.Config(folder=str(tmp_path / name), template=section.config.template),
            sources_of(PictureFolder(tmp_path)),
        )
        for name in ("llava", "again")
    )
    assert encoder.fingerprint == again.fingerprint
    tower = CLIPModel.from_pretrained(tmp_path / "clip").vision_model.state_dict()
    ours = encoder.network.model.vision_tower
    ours = getattr(ours, "vision_model", ours).state_dict()
    assert all(torch.equal(ours[name], weights) for name, weights in tower.items())
    words = encoder.reader.queries([Query("q", name) for name in countries()])["input_ids"]
    assert encoder.reader.tokenizer.unk_token_id not in words.flatten().tolist()
    picture = encoder.reader.documents([Document("d", image="scene")])["input_ids"]
    assert (picture == encoder.reader.image_id).sum() == 65
    assert encoder.encode_documents([Document("d", image="scene")]).shape == (1, 64)
