"""Frozen vision towers: open_clip's own and timm's, whole or cut, with weights that fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_tower import tiny_tower

from gemkr.errors import VisionError
from gemkr.vision.config import TowerConfig
from gemkr.vision.encode import Tower, load_tower


@pytest.fixture
def tower(tmp_path: Path) -> Tower:
    return tiny_tower(tmp_path)


def test_tower_gives_the_state_before_the_projection(tower: Tower) -> None:
    pixels = torch.stack([tower.preprocess(Image.new("RGB", (90, 40), colour)) for colour in ("red", "blue")])
    assert pixels.shape == (2, 3, 32, 32)
    states = tower(pixels)
    assert states.shape == (2, tower.width) == (2, 16)
    assert not any(p.requires_grad for p in tower.parameters())
    np.testing.assert_allclose(states.detach().mean(dim=1).numpy(), 0.0, atol=1e-5)


def test_timm_trunk_of_a_known_architecture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = {
        "embed_dim": 8,
        "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "image_size": 224},
    }
    (tmp_path / "timm.json").write_text(json.dumps(config))
    tower = load_tower(TowerConfig(config=str(tmp_path / "timm.json")))
    assert tower(torch.zeros(1, 3, 224, 224)).shape == (1, tower.width) == (1, 192)
    assert len(tower.blocks) == 12


def test_tower_weights_are_strict(tower: Tower, tmp_path: Path) -> None:
    own = {f"visual.{name}": value for name, value in tower.visual.state_dict().items()}
    own |= {"visual.proj": torch.randn(16, 8), "logit_scale": torch.zeros(())}
    config = str(tmp_path / "vit.json")
    torch.save({"state_dict": own}, tmp_path / "good.pt")
    loaded = load_tower(TowerConfig(config=config, weights=str(tmp_path / "good.pt")))
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(pixels), tower(pixels))
    again = load_tower(TowerConfig(config=config, weights=str(tmp_path / "good.pt")))
    assert again.fingerprint == loaded.fingerprint != tower.fingerprint
    torch.save({**own, "visual.ln_post.bias": torch.zeros(5)}, tmp_path / "bad.pt")
    with pytest.raises(VisionError, match=r"ln_post\.bias has shape \(5,\) instead of \(16,\)"):
        load_tower(TowerConfig(config=config, weights=str(tmp_path / "bad.pt")))
    with pytest.raises(VisionError, match="do not exist"):
        load_tower(TowerConfig(config=config, weights="none.pt"))
    with pytest.raises(VisionError, match="no architecture 'ViT-Z-1'"):
        load_tower(TowerConfig("ViT-Z-1"))
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(VisionError, match="lacks 'embed_dim'"):
        load_tower(TowerConfig(config=str(tmp_path / "empty.json")))


def test_a_depth_ends_the_tower_before_its_last_layer_norm(tower: Tower, tmp_path: Path) -> None:
    own = dict(tower.visual.state_dict())
    kept = {k: v for k, v in own.items() if not k.startswith(("ln_post", "transformer.resblocks.1"))}
    torch.save(kept, tmp_path / "kept.pt")
    config = TowerConfig(config=str(tmp_path / "vit.json"), weights=str(tmp_path / "kept.pt"), depth=1)
    cut = load_tower(config)
    assert (len(cut.blocks), len(tower.blocks)) == (1, 2)
    pixels = torch.randn(2, 3, 32, 32)
    states = []
    tower.blocks[0].register_forward_hook(lambda block, given, output: states.append(output))
    tower(pixels)
    assert torch.equal(cut(pixels), states[0][:, 0])
    torch.save(own, tmp_path / "whole.pt")
    whole = load_tower(replace(config, weights=str(tmp_path / "whole.pt")))
    assert cut.fingerprint == whole.fingerprint != tower.fingerprint
    with pytest.raises(VisionError, match=r"has 2 blocks, tower\.depth is 3; lower it"):
        load_tower(replace(config, depth=3))
    torch.save({**kept, "transformer.resblocks.7.ln_1.bias": torch.zeros(16)}, tmp_path / "more.pt")
    with pytest.raises(VisionError, match=r"resblocks\.7\.ln_1\.bias is unknown"):
        load_tower(replace(config, weights=str(tmp_path / "more.pt")))


def test_a_timm_trunk_reads_its_own_names_and_can_be_cut(tmp_path: Path) -> None:
    config = {
        "embed_dim": 8,
        "vision_cfg": {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "image_size": 224},
    }
    (tmp_path / "timm.json").write_text(json.dumps(config))
    whole = load_tower(TowerConfig(config=str(tmp_path / "timm.json")))
    torch.save(whole.visual.trunk.state_dict(), tmp_path / "trunk.pt")
    cut = load_tower(
        TowerConfig(config=str(tmp_path / "timm.json"), weights=str(tmp_path / "trunk.pt"), depth=2)
    )
    states = []
    whole.blocks[1].register_forward_hook(lambda block, given, output: states.append(output))
    pixels = torch.randn(1, 3, 224, 224)
    whole(pixels)
    assert torch.equal(cut(pixels), states[0][:, 0])
