"""The importer of PreFLMR on the shapes of PreFLMR_ViT-L_ENCN (XLM-R, pieces with ▁, no [MASK] padding) and of FLMR (no mapping network)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from published_flmr import Theirs, publish, require_their_vectors
from safetensors.torch import load_file, save_file
from tiny_flmr import save_tiny_text, save_tiny_xlmr
from tiny_pictures import save_pictures, save_tiny_clip
from transformers import AutoConfig, CLIPConfig

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError
from gemkr.models.flmr.encoder import PreFLMREncoder
from gemkr.training.contrastive.published import EncoderChoice, import_encoder
from gemkr.training.contrastive.run import Material
from gemkr.types import Document, Query
from gemkr.vision.pictures import PictureFolder

ENGLISH = ["▁a", "▁red", "▁cat", "▁bird", "▁which", "▁find", "▁the", "▁photo", "▁tree"]
CHINESE = ["红", "猫", "鸟", "树", "查找", "图片", "哪", "只"]
PIECES = [",", ".", "?", "▁", "▁.", "▁,", "▁?", "▁:", *ENGLISH, *CHINESE]
SIZES = {
    "width": 8, "query_tokens": 14, "document_tokens": 20, "image_tokens": 4, "seen_tokens": 7, "train_vision": True,
    "separate": True,
}  # fmt: skip
ENCN = {"text": "xlmr", "query_marker": "▁.", "document_marker": "▁.", "mask_padding": False}
FLMR = {"text": "bert", "mapping_layers": 0}
QUERIES = [
    Query("e", "a red cat?", image="one", instruction="find the photo:"),
    Query("c", "哪只红猫?", image="two", instruction="查找图片\uff1a"),
    Query("l", "which cat, which red bird, which tree, a photo", image="one", instruction="find the photo"),
]
DOCUMENTS = [
    Document("e", "a red cat. the bird , a tree ."),
    Document("c", "红猫 , 树 ."),
    Document("f", "a tree"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("encn")
    save_tiny_xlmr(home / "xlmr", PIECES)
    save_tiny_text(home / "bert")
    save_tiny_clip(home / "clip")
    save_pictures(home / "images", ["one", "two"])
    return home


def section(home: Path, model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    values = {"kind": "preflmr", "vision": str(home / "clip"), **SIZES, **model, **changes}
    return values | {"text": str(home / values["text"])}


def choice(values: dict[str, Any]) -> EncoderChoice:
    return from_mapping({"encoder": values}, EncoderChoice, "test")


def theirs(home: Path, model: dict[str, Any]) -> Theirs:
    torch.manual_seed(9)
    vision = CLIPConfig.from_pretrained(home / "clip").vision_config
    mapping = model.get("mapping_layers") != 0
    return Theirs(AutoConfig.from_pretrained(home / model["text"]), vision, True, mapping).eval()


def built(home: Path, values: dict[str, Any]) -> PreFLMREncoder:
    return choice(values).encoder.build(Material(PictureFolder(home / "images")))


@pytest.mark.parametrize("model", [ENCN, FLMR], ids=["encn", "flmr"])
def test_an_imported_checkpoint_gives_their_vectors(
    home: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    module = theirs(home, model)
    folder = publish(module, tmp_path / "published", True)
    values = section(home, model)
    (tmp_path / "own.yaml").write_text(json.dumps({"encoder": values}))
    output = str(tmp_path / "imported")
    assert main(["import-checkpoint", str(folder), "-o", output, "--config", str(tmp_path / "own.yaml")]) == 0
    encoder = built(home, values | {"checkpoint": output})
    require_their_vectors(encoder, module, QUERIES, DOCUMENTS, "▁:" if model is ENCN else ":")


def test_what_encn_reads_and_scores(home: Path) -> None:
    encoder = built(home, section(home, ENCN))
    tokenizer, reader = encoder.reader.tokenizer, encoder.reader
    read = reader.queries(QUERIES[:2])
    words = [tokenizer.convert_ids_to_tokens(row) for row in read["query_tokens"].tolist()]
    assert words == [
        ["<s>", "▁.", "▁find", "▁the", "▁photo", "▁:", "▁a", "▁red", "▁cat", "?", "</s>", *["<pad>"] * 3],
        ["<s>", "▁.", "▁", "查找", "图片", "▁:", "▁", "哪", "只", "红", "猫", "?", "</s>", "<pad>"],
    ]
    assert read["scored"].tolist() == [
        [True] * 2 + [False] * 4 + [True] * 5 + [False] * 3,
        [True] * 2 + [False] * 4 + [True] * 7 + [False],
    ]
    assert torch.equal(read["attended"].bool(), read["query_tokens"] != tokenizer.pad_token_id)
    read = reader.documents(DOCUMENTS[:1])
    words = tokenizer.convert_ids_to_tokens(read["document_tokens"][0])
    scored = [word for word, counts in zip(words, read["scored"][0].tolist(), strict=True) if counts]
    assert words == [
        "<s>",
        "▁.",
        "▁a",
        "▁red",
        "▁cat",
        ".",
        "▁the",
        "▁bird",
        "▁,",
        "▁a",
        "▁tree",
        "▁.",
        "</s>",
    ]
    # marks with ▁ are masked, the marker among them; one that ends a word is another piece, as in the published code
    assert scored == ["<s>", "▁a", "▁red", "▁cat", ".", "▁the", "▁bird", "▁a", "▁tree", "</s>"]
    ranges = encoder.describe_document(DOCUMENTS[0])
    assert [DOCUMENTS[0].contents[a:b].strip() for a, b in ranges] == [
        "",
        *(word.lstrip("▁") for word in scored[1:-1]),
        "",
    ]
    described = [vector.text for vector in encoder.describe_query(Query("q", "a cat"))]
    assert described == ["<s>", "▁.", "▁a", "▁cat", "</s>"]


@pytest.mark.parametrize("model", [ENCN, FLMR], ids=["encn", "flmr"])
def test_every_tensor_is_accounted_for(home: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    folder = publish(theirs(home, model), tmp_path / "published", True)
    file, values = folder / "model-00000-of-00002.safetensors", choice(section(home, model))
    state = load_file(file)
    gone = next(name for name in state if "attention.self.query.weight" in name and "context_text" in name)
    for change, message in (
        ({name: value for name, value in state.items() if name != gone}, f"lacks {gone}"),
        (state | {"extra.weight": torch.ones(1)}, r"has the unknown extra\.weight"),
        (
            state | {"transformer_mapping_extra.weight": torch.ones(1)},
            "has the unknown transformer_mapping_extra",
        ),
        (state | {gone: torch.ones(3, 3)}, r"has shape \[3, 3\] instead of \[24, 24\]"),
        (state | {gone: torch.full((24, 24), torch.nan)}, "holds NaN or infinity in document_text"),
    ):
        save_file(change, file)
        with pytest.raises(CheckpointError, match=message):
            import_encoder(folder, values)
    save_file(state, file)
    import_encoder(folder, values)


def test_a_tower_or_mapping_layers_of_another_model_are_refused(home: Path, tmp_path: Path) -> None:
    encn = publish(theirs(home, ENCN), tmp_path / "encn", True)
    flmr = publish(theirs(home, FLMR), tmp_path / "flmr", True)
    with pytest.raises(CheckpointError, match=r"has shape|lacks"):
        import_encoder(
            encn,
            choice(section(home, ENCN, text="bert", query_marker="[unused0]", document_marker="[unused1]")),
        )
    for folder, model, layers, message in (
        (encn, ENCN, 0, r"has 1 mapping layers \(use_transformer_mapping_network: True\), the encoder mapping_layers: 0; set encoder"),
        (encn, ENCN, 2, r"set encoder\.mapping_layers: 1"),
        (flmr, FLMR, 1, r"has 0 mapping layers .*False\), the encoder mapping_layers: 1; set encoder\.mapping_layers: 0"),
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match=message):
            import_encoder(folder, choice(section(home, model, mapping_layers=layers)))
    for folder, model, layers, message in (
        (encn, ENCN, 0, "unknown transformer_mapping"),
        (flmr, FLMR, 1, "lacks transformer_mapping"),
    ):
        (folder / "config.json").unlink()
        with pytest.raises(CheckpointError, match=message):
            import_encoder(folder, choice(section(home, model, mapping_layers=layers)))
