"""A vision tower of two blocks with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from gemkr.vision.config import TowerConfig
from gemkr.vision.encode import Tower, load_tower

TINY_VIT = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 16},
}


def tiny_tower(folder: Path) -> Tower:
    """The same one every time; its configuration stays in `folder` as vit.json."""
    (folder / "vit.json").write_text(
        json.dumps({"model_cfg": TINY_VIT, "preprocess_cfg": {"resize_mode": "squash"}})
    )
    torch.manual_seed(0)
    return load_tower(TowerConfig(config=str(folder / "vit.json")))
