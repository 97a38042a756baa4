"""The importer of PreFLMR, on state dicts with its names in miniature, held against a module that computes as its authors' does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published_flmr import Theirs, publish, require_their_vectors
from safetensors.torch import load_file, save_file
from tiny_flmr import save_tiny_text
from tiny_pictures import save_pictures, save_tiny_clip
from transformers import AutoConfig, CLIPConfig

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError
from gemkr.models.token_embedder import TokenEmbedder
from gemkr.training.contrastive.published import EncoderChoice, import_encoder
from gemkr.training.contrastive.run import Material
from gemkr.types import Document, Query
from gemkr.vision.pictures import PictureFolder

SIZES = {
    "width": 8,
    "query_tokens": 12,
    "document_tokens": 20,
    "image_tokens": 4,
    "seen_tokens": 7,
    "train_vision": True,
}
QUERIES = [
    Query("b", "a red cat", image="one", instruction="find a photo:"),
    Query(
        "l", "which one is the small dog of the big green house", image="two", instruction="find the photo:"
    ),
]
DOCUMENTS = [Document("d", "the blue bird, a boat."), Document("e", "a tree")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("preflmr")
    save_tiny_text(home / "bert")
    save_tiny_clip(home / "clip")
    save_pictures(home / "images", ["one", "two"])
    return home


def theirs(home: Path, separate: bool) -> Theirs:
    torch.manual_seed(8)
    vision = CLIPConfig.from_pretrained(home / "clip").vision_config
    return Theirs(AutoConfig.from_pretrained(home / "bert"), vision, separate).eval()


def section(home: Path, **changes: Any) -> dict[str, Any]:
    return {"kind": "preflmr", "text": str(home / "bert"), "vision": str(home / "clip"), **SIZES, **changes}


def choice(values: dict[str, Any]) -> EncoderChoice:
    return from_mapping({"encoder": values}, EncoderChoice, "test")


@pytest.mark.parametrize("separate", [True, False])
def test_an_imported_checkpoint_gives_their_vectors(home: Path, tmp_path: Path, separate: bool) -> None:
    module = theirs(home, separate)
    folder = publish(module, tmp_path / "published", separate)
    values = section(home, separate=separate)
    (tmp_path / "flmr.yaml").write_text(json.dumps({"encoder": values}))
    output = tmp_path / "imported"
    assert (
        main(["import-checkpoint", str(folder), "-o", str(output), "--config", str(tmp_path / "flmr.yaml")])
        == 0
    )
    pictures = Material(PictureFolder(home / "images"))
    model: TokenEmbedder = choice(values | {"checkpoint": str(output)}).encoder.build(pictures)
    require_their_vectors(model, module, QUERIES, DOCUMENTS, ":")


def test_every_tensor_is_accounted_for(home: Path, tmp_path: Path) -> None:
    folder = publish(theirs(home, True), tmp_path / "published", True)
    file = folder / "model-00000-of-00002.safetensors"
    state = load_file(file)
    values = choice(section(home, separate=True))
    gone = next(name for name in state if "attention.self.query.weight" in name and "context_text" in name)
    for change, message in (
        ({n: v for n, v in state.items() if n != gone}, f"lacks {gone.replace('.', '.')}"),
        (state | {"extra.weight": torch.ones(1)}, r"has the unknown extra\.weight"),
        (state | {gone: torch.ones(3, 3)}, r"has shape \[3, 3\] instead of \[24, 24\]"),
        (state | {gone: torch.full((24, 24), torch.nan)}, "holds NaN or infinity in document_text"),
    ):
        save_file(change, file)
        with pytest.raises(CheckpointError, match=message):
            import_encoder(folder, values)
    save_file(state, file)
    with pytest.raises(
        CheckpointError, match=r"has separate_query_and_context_text_encoder: True.*set encoder\.separate"
    ):
        import_encoder(folder, choice(section(home)))
    (folder / "config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"which differ, and the encoder has one for both; set encoder\.separate: true"
    ):
        import_encoder(folder, choice(section(home)))
    with pytest.raises(CheckpointError, match=r"has shape .* instead of|lacks"):
        import_encoder(folder, choice(section(home, separate=True, image_tokens=2)))
    with pytest.raises(CheckpointError, match=r"set encoder\.learns: all and encoder\.train_vision: true"):
        import_encoder(folder, choice(section(home, separate=True, train_vision=False)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        CheckpointError, match="holds no safetensors file; give the folder of a published PreFLMR"
    ):
        import_encoder(tmp_path / "empty", values)
    (tmp_path / "empty" / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"cannot be read .*; download it again"):
        import_encoder(tmp_path / "empty", values)


def test_settings_that_the_published_config_contradicts(home: Path, tmp_path: Path) -> None:
    folder = publish(theirs(home, True), tmp_path / "p", True, transformer_mapping_cross_attention_length=32)
    with pytest.raises(
        CheckpointError,
        match=r"cross_attention_length: 32, the encoder seen_tokens: 7; set encoder\.seen_tokens",
    ):
        import_encoder(folder, choice(section(home, separate=True)))
