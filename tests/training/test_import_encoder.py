"""The importers of published encoders, on state dicts with their names in miniature, held against modules that compute as theirs do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from tiny_pictures import SIZE, queries_and_documents, save_pictures, save_tiny_blip, save_tiny_clip
from tiny_vlm import save_tiny_vlm
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText
from uniir_modules import SPACE, TheirBlip, Theirs

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError
from gemkr.models.embedder import Embedder
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.contrastive.published import EncoderChoice, import_encoder
from gemkr.training.contrastive.run import Material
from gemkr.vision.pictures import PictureFolder

FUSION = {"heads": 2, "head_width": 8, "feed_forward": 16}
ADAPTERS = {"r": 2, "alpha": 8, "dropout": 0.0, "targets": r".*\.(q|k|v|o|gate|up|down)_proj", "dora": True}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("encoders")
    save_tiny_clip(home / "clip")
    save_tiny_vlm(home / "vlm", "qwen2_vl")
    save_pictures(home / "images", ["one", "two", "three"])
    save_tiny_blip(home / "blip")
    torch.manual_seed(3)
    for kind in ("clip_sf", "clip_ff", "blip_sf", "blip_ff"):
        (home / f"{kind}.yaml").write_text(
            json.dumps({"encoder": section(home, kind), "corpus": "${oc.env:GEMKR_NOT_SET_ANYWHERE}"})
        )
        torch.save(saved(theirs(home, kind)), home / f"{kind}.pth")
    return home


def section(home: Path, kind: str, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"kind": kind, "folder": str(home / kind.split("_")[0])}
    return values | (FUSION if kind == "clip_ff" else {}) | changes


def theirs(home: Path, kind: str) -> nn.Module:
    family, fusion = kind.split("_")
    config = json.loads((home / family / "config.json").read_text())
    made = {"clip": Theirs, "blip": TheirBlip}[family]
    return made(config["text_config"]["vocab_size"], fusion == "ff").eval()


def saved(module: nn.Module) -> dict[str, Any]:
    """As UniIR's training saves it, with the settings of OmegaConf."""
    optimizer = torch.optim.AdamW(module.parameters())
    settings = OmegaConf.create(
        {"model": {"name": "CLIPScoreFusion", "sizes": [1, 2.5, None, True]}, "seed": 2023}
    )
    return {
        "model": module.state() if isinstance(module, TheirBlip) else module.state_dict(), "optimizer": optimizer.state_dict(), "config": settings, "epoch": 15,
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10).state_dict(),
    }  # fmt: skip


def choice(values: dict[str, Any]) -> EncoderChoice:
    return from_mapping({"encoder": values}, EncoderChoice, "test")


def build(home: Path, values: dict[str, Any]) -> Embedder:
    return choice(values).encoder.build(Material(PictureFolder(home / "images")))


@pytest.mark.parametrize(
    ("kind", "unused"),
    [("clip_sf", 1), ("clip_ff", 2), ("blip_sf", 90 + 20 + 6), ("blip_ff", 88 + 6)],
)
def test_an_imported_checkpoint_gives_their_vectors(
    home: Path, tmp_path: Path, kind: str, unused: int, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "imported"
    given = ["import-checkpoint", f"{home}/{kind}.pth", "-o", str(output), "--config", f"{home}/{kind}.yaml"]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert f"not needed: {unused} tensors" in printed
    checkpoint = read_checkpoint(output)
    assert checkpoint.state == {"imported": f"{kind}.pth", "beside": {"epoch": 15}}
    model = build(home, section(home, kind, checkpoint=str(output)))
    module = theirs(home, kind)
    state = torch.load(home / f"{kind}.pth", weights_only=False)["model"]
    found = module.load_state_dict(state, strict=False)  # what is beside the module is named below
    unknown = found.unexpected_keys
    assert {*found.missing_keys} <= {"text_encoder.embeddings.token_type_embeddings.weight"}  # BLIP has none
    assert all(
        "_m." in name or "_queue" in name or name == "temp" or "position_ids" in name for name in unknown
    )
    queries, documents = queries_and_documents()
    for read, encode, items in (
        (model.reader.queries, model.encode_queries, queries),
        (model.reader.documents, model.encode_documents, documents),
    ):
        np.testing.assert_allclose(encode(items), module(read(items)).numpy(), atol=1e-5)
    assert not np.allclose(
        build(home, section(home, kind)).encode_queries(queries), model.encode_queries(queries), atol=0.1
    )


@pytest.mark.parametrize("kind", ["blip_sf", "blip_ff"])
def test_a_blip_of_smaller_pictures_than_its_folder(home: Path, tmp_path: Path, kind: str) -> None:
    """UniIR's have 224 pixels a side, the public folders of BLIP 384; BLIP_SF's space 768 numbers, theirs 256."""
    values = section(home, kind)
    vocabulary = json.loads((home / "blip/config.json").read_text())["text_config"]["vocab_size"]
    torch.manual_seed(0)
    module = TheirBlip(vocabulary, kind == "blip_ff", SIZE // 2, 36).eval()
    torch.save({"model": module.state()}, tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match=r"pos_embed has shape \[1, 2, 20\] instead of \[1, 5, 20\]"):
        import_encoder(tmp_path / "small.pth", choice(values))
    values |= {"image_size": SIZE // 2} | ({"space": 36} if kind == "blip_sf" else {})
    (tmp_path / "own.yaml").write_text(json.dumps({"encoder": values}))
    words = ["import-checkpoint", str(tmp_path / "small.pth"), "--config", str(tmp_path / "own.yaml")]
    assert main([*words, "-o", str(tmp_path / "imported")]) == 0
    model = build(home, values | {"checkpoint": str(tmp_path / "imported")})
    queries, _ = queries_and_documents()
    expected = module(model.reader.queries(queries)).numpy()
    np.testing.assert_allclose(model.encode_queries(queries), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("clip_model.visual.proj"), r"lacks clip_model\.visual\.proj;"),
        (lambda s: s.pop("clip_model.transformer.resblocks.1.attn.in_proj_bias"), r"lacks clip_model\.tr.*\.1\.attn\.in_proj_bias;"),
        (lambda s: s.update({"clip_model.extra": torch.ones(1)}), r"has the unknown clip_model\.extra;"),
        (lambda s: s.update({"clip_model.visual.proj": torch.ones(SPACE, 20)}), r"visual\.proj has shape \[24, 20\] instead of \[20, 24\]"),
        (
            lambda s: s.update({"clip_model.transformer.resblocks.0.attn.in_proj_weight": torch.ones(24, 24)}),
            r"it clip_model.transformer.resblocks.0.attn.in_proj_weight has shape \[24, 24\] instead of \[72, 24\]; use",
        ),
        (lambda s: s["clip_model.ln_final.bias"].fill_(torch.nan), "NaN or infinity in text_model.final_layer_norm.bias"),
    ],
)  # fmt: skip
def test_every_tensor_is_accounted_for(
    home: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    state = dict(theirs(home, "clip_sf").state_dict())
    change(state)
    torch.save({"model": state}, tmp_path / "changed.pth")
    with pytest.raises(CheckpointError, match=message):
        import_encoder(tmp_path / "changed.pth", choice(section(home, "clip_sf")))


def test_encoders_of_another_kind_are_refused(home: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"lacks t5_layers.*has the unknown clip_model\.text_projection"
    ):
        import_encoder(home / "clip_sf.pth", choice(section(home, "clip_ff")))
    with pytest.raises(
        CheckpointError, match=r"the configuration has 'sentence_transformers'; set encoder\.kind"
    ):
        import_encoder(home / "clip_sf.pth", choice(section(home, "sentence_transformers")))
    with pytest.raises(CheckpointError, match=r"leave encoder\.adapters out"):
        import_encoder(home / "clip_sf.pth", choice(section(home, "clip_sf", adapters=ADAPTERS)))


def save_adapters(home: Path, folder: Path, dora: bool) -> nn.Module:
    """Adapters of random weights on the whole model, saved by peft as VLM2Vec's and LamRA's training does."""
    torch.manual_seed(4)
    whole = AutoModelForImageTextToText.from_pretrained(home / "vlm").eval()
    settings = peft.LoraConfig(
        r=2, lora_alpha=8, lora_dropout=0.1, use_dora=dora, init_lora_weights="gaussian",
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
    )  # fmt: skip
    model = peft.get_peft_model(whole, settings)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.2 * torch.rand_like(parameter)
    model.save_pretrained(folder)
    return model.eval()


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("dora", [False, True])
def test_imported_adapters_give_their_vectors(home: Path, tmp_path: Path, dora: bool, older: bool) -> None:
    module = save_adapters(home, tmp_path / "peft", dora)
    file = tmp_path / "peft" / "adapter_model.safetensors"
    names = load_file(file)
    assert any(name.endswith("lora_magnitude_vector") for name in names) == dora
    if older:
        save_file(
            {name.replace("model.language_model.", "model."): value for name, value in names.items()}, file
        )
    values = section(home, "vlm", adapters={**ADAPTERS, "dora": dora})
    (tmp_path / "vlm.yaml").write_text(json.dumps({"encoder": values}))
    output = str(tmp_path / "imported")
    given = [
        "import-checkpoint",
        str(file if older else file.parent),
        "-o",
        output,
        "--config",
        str(tmp_path / "vlm.yaml"),
    ]
    assert main(given) == 0
    model = build(home, {**values, "checkpoint": output})
    queries, _ = queries_and_documents()
    inputs = model.reader.queries(queries)
    with torch.no_grad():
        states = module.base_model.model.model(**inputs, use_cache=False).last_hidden_state
    last = inputs["attention_mask"].sum(1) - 1
    expected = F.normalize(states[torch.arange(len(last)), last], dim=-1).numpy()
    np.testing.assert_allclose(model.encode_queries(queries), expected, atol=1e-5)
    assert not np.allclose(build(home, values).encode_queries(queries), expected, atol=1e-2)


def test_adapters_of_a_tower_and_whole_models(tmp_path: Path) -> None:
    """VLM2Vec's own targets reach the tower of a LLaVA; its published LLaVA, and LamRA's models, are merged."""
    save_tiny_vlm(tmp_path / "llava", "llava_next")
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "llava")
    theirs = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj", "k_proj", "q_proj", "out_proj", "v_proj"]
    settings = peft.LoraConfig(r=2, lora_alpha=8, use_dora=True, target_modules=theirs)
    model = peft.get_peft_model(whole, settings)
    model.save_pretrained(tmp_path / "peft")
    values = choice({"kind": "vlm", "folder": str(tmp_path / "llava"), "adapters": ADAPTERS})
    message = r"change the vision tower too \(such as base_model.*vision_tower.*\), which none do here; merge them with peft"
    with pytest.raises(CheckpointError, match=message):
        import_encoder(tmp_path / "peft", values)
    with pytest.raises(
        CheckpointError, match=r"llava holds a whole model and no adapters; name it as the folder"
    ):
        import_encoder(tmp_path / "llava", values)
    pictures = save_pictures(tmp_path / "images", ["one", "two", "three"])
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.2 * torch.rand_like(parameter)
    queries, _ = queries_and_documents()
    inputs = values.encoder.build(Material(pictures)).reader.queries(queries)
    merged = model.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for file in (tmp_path / "llava").iterdir():
        if not (tmp_path / "merged" / file.name).exists():
            shutil.copy(file, tmp_path / "merged")
    plain = choice({"kind": "vlm", "folder": str(tmp_path / "merged")}).encoder.build(Material(pictures))
    with torch.no_grad():
        states = merged.model(**inputs, use_cache=False).last_hidden_state
    last = inputs["attention_mask"].sum(1) - 1
    expected = F.normalize(states[torch.arange(len(last)), last], dim=-1).numpy()
    np.testing.assert_allclose(plain.encode_queries(queries), expected, atol=1e-5)


def test_adapters_that_do_not_fit(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "peft"
    save_adapters(home, folder, True)
    tensors = load_file(folder / "adapter_model.safetensors")
    settings = json.loads((folder / "adapter_config.json").read_text())
    for changes, message in (
        ({"adapters": None}, "set encoder.adapters"),
        ({"adapters": {**ADAPTERS, "r": 4}}, r"have r: 2, the encoder adapters\.r: 4"),
        ({"adapters": {**ADAPTERS, "alpha": 16}}, r"have lora_alpha: 8, the encoder adapters\.alpha: 16"),
        (
            {"adapters": {**ADAPTERS, "dora": False}},
            r"have use_dora: True, the encoder adapters\.dora: False",
        ),
        (
            {"adapters": {**ADAPTERS, "targets": r".*\.(q|k)_proj"}},
            r"has the unknown base_model.*layers\.\{0-1\}\.mlp",
        ),
    ):
        with pytest.raises(CheckpointError, match=message):
            import_encoder(folder, choice(section(home, "vlm", **{"adapters": ADAPTERS, **changes})))
    values = choice(section(home, "vlm", adapters=ADAPTERS))
    gone = next(name for name in tensors if name.endswith("lora_magnitude_vector"))
    save_file(
        {name: value for name, value in tensors.items() if name != gone}, folder / "adapter_model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"lacks base_model.*lora_magnitude_vector"):
        import_encoder(folder, values)
    for name, value in (
        ("use_rslora", True),
        ("rank_pattern", {"q_proj": 4}),
        ("modules_to_save", ["lm_head"]),
        ("init_lora_weights", "pissa_niter_4"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps(settings | {name: value}))
        with pytest.raises(CheckpointError, match=f"have {name}: .*merge them with peft"):
            import_encoder(folder, values)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="download them again"):
        import_encoder(folder, values)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        import_encoder(tmp_path / "absent", values)
