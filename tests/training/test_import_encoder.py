"""The importers of published encoders, on state dicts with their names in miniature, held against modules that compute as theirs do."""

from __future__ import annotations

import json
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
from timm.models.vision_transformer import VisionTransformer
from tiny_pictures import SIZE, queries_and_documents, save_pictures, save_tiny_blip, save_tiny_clip
from tiny_vlm import save_tiny_vlm
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, BertConfig, BertModel
from transformers.models.t5 import T5Config
from transformers.models.t5.modeling_t5 import T5Stack

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError
from gemkr.models.embedder import Embedder, Inputs
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.contrastive.published import EncoderChoice, import_encoder
from gemkr.training.contrastive.run import Material
from gemkr.vision.pictures import PictureFolder

SPACE, POSITIONS = 24, 20
FUSION = {"heads": 2, "head_width": 8, "feed_forward": 16}
ADAPTERS = {"r": 2, "alpha": 8, "dropout": 0.0, "targets": r".*\.(q|k|v|o|gate|up|down)_proj", "dora": True}


class Block(nn.Module):
    """A layer of OpenAI's CLIP, by its paper: attention of all heads at once, a sigmoid's GELU, LayerNorm before each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 2, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 32), "c_proj": nn.Linear(32, width)})

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


class Layers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width) for _ in range(2)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 8, 8, bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros((SIZE // 8) ** 2 + 1, width))
        self.ln_pre, self.transformer, self.ln_post = nn.LayerNorm(width), Layers(width), nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.zeros(width, SPACE))

    def forward(self, pixels: Tensor) -> Tensor:
        """All states, projected."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pixels), 1, -1)
        x = self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x)) @ self.proj


class OpenAIClip(nn.Module):
    """Names, shapes and sums of OpenAI's CLIP."""

    def __init__(self, vocabulary: int, projected: bool) -> None:
        super().__init__()
        self.visual, self.transformer = Visual(20), Layers(SPACE)
        self.token_embedding = nn.Embedding(vocabulary, SPACE)
        self.positional_embedding = nn.Parameter(torch.zeros(POSITIONS, SPACE))
        self.ln_final = nn.LayerNorm(SPACE)
        if projected:
            self.text_projection = nn.Parameter(torch.zeros(SPACE, SPACE))
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def states(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = torch.full((length, length), -torch.inf).triu(1)
        x = self.token_embedding(tokens) + self.positional_embedding[:length]
        return self.ln_final(self.transformer(x, mask))


class Theirs(nn.Module):
    """UniIR's CLIP_SF, and with `fused` CLIP_FF."""

    def __init__(self, vocabulary: int, fused: bool) -> None:
        super().__init__()
        self.clip_model = OpenAIClip(vocabulary, projected=not fused)
        if fused:
            config = T5Config(
                vocab_size=7, d_model=SPACE, d_kv=8, d_ff=16, num_layers=2, num_heads=2, use_cache=False, is_decoder=False
            )  # fmt: skip
            self.t5_layers = T5Stack(config)
            self.t5_layers.set_input_embeddings(nn.Embedding(7, SPACE))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        clip, has_text, has_image = self.clip_model, inputs["has_text"], inputs["has_image"]
        pixels = torch.zeros(len(has_text), 3, SIZE, SIZE)
        pixels[has_image] = inputs["pixels"]
        text, image = clip.states(inputs["tokens"]), clip.visual(pixels)
        if hasattr(self, "t5_layers"):
            both = torch.cat([text, image], dim=1)
            return F.normalize(self.t5_layers(inputs_embeds=both).last_hidden_state.mean(1), dim=-1)
        ends = inputs["token_mask"].sum(1) - 1
        text = text[torch.arange(len(ends)), ends] @ clip.text_projection
        return F.normalize(text * has_text[:, None] + image[:, 0] * has_image[:, None], dim=-1)


class TheirBlip(nn.Module):
    """UniIR's BLIP_SF, and with `fused` BLIP_FF: timm's vision transformer, and BERT without token types and without a causal mask."""

    def __init__(self, vocabulary: int, fused: bool, size: int = SIZE) -> None:
        super().__init__()
        self.size = size
        self.visual_encoder = VisionTransformer(
            img_size=size, patch_size=8, embed_dim=20, depth=2, num_heads=2, mlp_ratio=1.6, num_classes=0, global_pool=""
        )  # fmt: skip
        config = BertConfig(
            vocab_size=vocabulary, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=24, encoder_hidden_size=20, is_decoder=True, add_cross_attention=True, use_cache=False,
        )  # fmt: skip
        self.text_encoder = BertModel(config, add_pooling_layer=fused)
        for layer in self.text_encoder.encoder.layer:
            for part in ("key", "value"):
                setattr(layer.crossattention.self, part, nn.Linear(20, 24))
        config.is_decoder = False
        self.fused = fused
        if not fused:
            self.vision_proj, self.text_proj = nn.Linear(20, 28), nn.Linear(24, 28)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)
        self.text_encoder.embeddings.token_type_embeddings.weight.data.zero_()

    def state(self) -> dict[str, Tensor]:
        """With what momentum, queue and temperature leave in a checkpoint."""
        state = {name: value for name, value in self.state_dict().items() if "token_type" not in name}
        for name in list(state):
            part, rest = name.split(".", 1)
            state[f"{part}_m.{rest}"] = state[name] * 0.5
        state["text_encoder.embeddings.position_ids"] = torch.arange(24)[None]
        extra = {
            "query_queue": (28, 4),
            "cand_queue": (28, 4),
            "idx_queue": (1, 4),
            "new_ptr_queue": (1,),
            "temp": (),
        }
        return state | {name: torch.ones(shape) for name, shape in extra.items()}

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        has_text, has_image = inputs["has_text"], inputs["has_image"]
        pixels = torch.zeros(len(has_text), 3, self.size, self.size)
        pixels[has_image] = inputs["pixels"]
        image = self.visual_encoder(pixels)
        tokens, mask = inputs["tokens"], inputs["token_mask"]
        if self.fused:
            seen = torch.ones(image.shape[:2])
            text = self.text_encoder(tokens, mask, encoder_hidden_states=image, encoder_attention_mask=seen)
            return F.normalize(text.pooler_output, dim=-1)
        text = self.text_proj(self.text_encoder(tokens, mask).last_hidden_state[:, 0])
        return F.normalize(
            text * has_text[:, None] + self.vision_proj(image[:, 0]) * has_image[:, None], dim=-1
        )


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
    """UniIR's have 224 pixels a side, the public folders of BLIP 384."""
    values = section(home, kind)
    vocabulary = json.loads((home / "blip/config.json").read_text())["text_config"]["vocab_size"]
    module = TheirBlip(vocabulary, kind == "blip_ff", SIZE // 2).eval()
    torch.save({"model": module.state()}, tmp_path / "small.pth")
    with pytest.raises(CheckpointError, match=r"pos_embed has shape \[1, 2, 20\] instead of \[1, 5, 20\]"):
        import_encoder(tmp_path / "small.pth", choice(values))
    values |= {"image_size": SIZE // 2}
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
