"""Adapters merged into their model give the same vectors and leave the vision tower alone; a second stage starts from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pictures import queries_and_documents, save_pictures
from tiny_vlm import save_tiny_vlm

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.models.embedder import Embedder
from gemkr.models.hf.adapters import VISION
from gemkr.models.weights import trained_parameters, weights_digest
from gemkr.training.checkpoints.checkpoint import save_checkpoint
from gemkr.training.checkpoints.encoder import KIND, NETWORK, bases_of
from gemkr.training.checkpoints.origin import Origin
from gemkr.training.contrastive.published import EncoderChoice
from gemkr.training.contrastive.run import Material, vocabulary_hash
from gemkr.vision.pictures import PictureFolder

ADAPTERS = {"r": 2, "alpha": 8, "dropout": 0.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("merging")
    save_tiny_vlm(home / "vlm", "qwen2_vl")
    save_pictures(home / "images", ["one", "two", "three"])
    return home


def build(home: Path, **values: object) -> Embedder:
    section = {"kind": "vlm", "folder": str(home / "vlm")} | values
    choice = from_mapping({"encoder": section}, EncoderChoice, "test")
    return choice.encoder.build(Material(PictureFolder(home / "images")))


def vision_of(encoder: Embedder) -> str:
    return weights_digest(
        {name: value for name, value in encoder.network.state_dict().items() if VISION.search(name)}
    )


@pytest.mark.parametrize("dora", [False, True])
def test_a_merged_model_gives_the_vectors_of_its_adapters(
    home: Path, tmp_path: Path, dora: bool, capsys: pytest.CaptureFixture
) -> None:
    adapters = ADAPTERS | {"dora": dora}
    adapted = build(home, adapters=adapters)
    torch.manual_seed(1)
    parameters = trained_parameters(adapted.network)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    origin = Origin(KIND, vocabulary_hash(adapted.reader.tokenizer), "0", {}, bases_of(adapted.network))
    weights = {f"{NETWORK}{name}": parameter for name, parameter in parameters.items()}
    save_checkpoint(tmp_path / "final", origin, weights)
    section = {
        "kind": "vlm", "folder": str(home / "vlm"), "adapters": adapters, "checkpoint": str(tmp_path / "final"),
    }  # fmt: skip
    (tmp_path / "first.yaml").write_text(json.dumps({"encoder": section, "queries": "q"}))
    words = ["merge-adapters", str(tmp_path / "first.yaml"), "-o", str(tmp_path / "merged")]
    assert main(words) == 0
    assert "14 modules merged" in capsys.readouterr().out
    merged = build(home, folder=str(tmp_path / "merged"))
    queries, documents = queries_and_documents()
    np.testing.assert_allclose(merged.encode_queries(queries), adapted.encode_queries(queries), atol=1e-5)
    np.testing.assert_allclose(
        merged.encode_documents(documents), adapted.encode_documents(documents), atol=1e-5
    )
    assert np.abs(merged.encode_queries(queries) - build(home).encode_queries(queries)).max() > 0.01
    assert vision_of(merged) == vision_of(build(home))
    assert not any("lora" in name for name in merged.network.state_dict())
    second = build(home, folder=str(tmp_path / "merged"), adapters=ADAPTERS | {"r": 4})
    np.testing.assert_allclose(second.encode_queries(queries), adapted.encode_queries(queries), atol=1e-5)
    assert main(words) == 1
    assert "exists already; choose another with -o" in capsys.readouterr().err


@pytest.mark.parametrize("values", [{}, {"adapters": ADAPTERS}, {"kind": "clip_sf", "adapters": ADAPTERS}])
def test_what_has_nothing_to_merge(
    home: Path, tmp_path: Path, values: dict, capsys: pytest.CaptureFixture
) -> None:
    section = {"kind": "vlm", "folder": str(home / "vlm")} | values
    (tmp_path / "first.yaml").write_text(json.dumps({"encoder": section}))
    assert main(["merge-adapters", str(tmp_path / "first.yaml"), "-o", str(tmp_path / "merged")]) == 1
    assert "only the adapters of an encoder of the kind vlm are merged" in capsys.readouterr().err
