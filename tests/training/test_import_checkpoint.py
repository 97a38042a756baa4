"""The importer of the authors' checkpoints, on a state dict with their names and shapes in miniature."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from gemkr.cli import main
from gemkr.errors import CheckpointError
from gemkr.models.gemkr.config import ModelConfig, PrefixConfig, VisualTokensConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.gemkr.outline import Outline
from gemkr.models.hf.config import LoraConfig
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.published import read_published
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.checkpoints.translation import translate
from gemkr.types import Query
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.config import TowerConfig
from gemkr.vision.encode import load_tower
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore
from gemkr.vision.store_writer import RegionStoreWriter

WIDTH, HIDDEN, HEADS, LAYERS, BLOCKS, ROWS, PREFIXED = 192, 32, 3, 2, 5, 4, 2
"""The paper's: 1408, 4096, 16, 32, 39, 10, 20."""
EVA = {
    "embed_dim": 8,
    "vision_cfg": {
        "image_size": 224,
        "timm_model_name": "eva02_tiny_patch14_224",
        "timm_pool": "token",
        "timm_proj": None,
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base models, a picture with two regions, the authors' checkpoint, and a YAML that names them all."""
    home = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    (home / "text.txt").write_text(
        "Below is a knowledge completion task . What is this ? ### Image : Question Response\n" * 20
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(home / "text.txt"), model_prefix=str(home / "tokenizer"), vocab_size=60, model_type="bpe",
        hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    llm = LlamaConfig(
        vocab_size=64, hidden_size=HIDDEN, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4,
        max_position_embeddings=256,
    )  # fmt: skip
    LlamaForCausalLM(llm).save_pretrained(home / "llm")
    (home / "tokenizer.model").rename(home / "llm" / "tokenizer.model")
    (home / "eva.json").write_text(json.dumps(EVA))
    whole = load_tower(TowerConfig(config=str(home / "eva.json")))
    torch.save(whole.visual.trunk.state_dict(), home / "eva.pt")
    (home / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(home / "images" / "a.png")
    tower = load_tower(config_of(home).tower)
    found = [
        PictureBoxes("a", (60, 40), np.array([[0, 0, 9, 9], [20, 5, 50, 30.0]], np.float32), ("x",) * 2, (0.5,) * 2)
    ]  # fmt: skip
    plan = {"detector": "none", "encoder": tower.fingerprint}
    writer = RegionStoreWriter(home / "store", found, rows=ROWS, width=WIDTH, plan=plan)
    writer.add([np.random.default_rng(1).normal(size=(2, WIDTH))])
    writer.finish()
    torch.save({"model": their_state(), "epoch": 4, "optimizer": {"state": {}}}, home / "checkpoint_4.pth")
    (home / "eval.yaml").write_text(
        f"""
queries: ${{oc.env:GEMKR_NOT_SET_ANYWHERE}}
model:
  llm: {home}/llm
  tower: {{config: {home}/eva.json, weights: {home}/eva.pt, depth: {BLOCKS}}}
  prefix: {{blocks: {PREFIXED}, rows: {ROWS}}}
  visual_tokens: {{cls: true, prefix_rows: 2, regions: false}}
  lora: {{r: 2, alpha: 4, dropout: 0.05}}
"""
    )
    return home


def config_of(home: Path) -> ModelConfig:
    return ModelConfig(
        llm=str(home / "llm"),
        tower=TowerConfig(config=str(home / "eva.json"), weights=str(home / "eva.pt"), depth=BLOCKS),
        prefix=PrefixConfig(blocks=PREFIXED, rows=ROWS),
        visual_tokens=VisualTokensConfig(cls=True, prefix_rows=2, regions=False),
        lora=LoraConfig(r=2, alpha=4, dropout=0.05),
    )


def their_state() -> dict[str, Tensor]:
    """Every name that their training saves, `inv_freq` buffers included; ln_vision is frozen, hence not among them."""
    rng = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng) * 0.5

    state = {"visual_encoder.adapter_query.weight": draw(PREFIXED * ROWS, WIDTH)}
    for block in range(BLOCKS - PREFIXED, BLOCKS):
        state[f"visual_encoder.blocks.{block}.attn.gate"] = draw(1, HEADS, 1, 1)
    for layer in range(LAYERS):
        attention = f"llama_model.base_model.model.model.layers.{layer}.self_attn"
        for name in ("q_proj", "v_proj"):
            state[f"{attention}.{name}.lora_A.weight"] = draw(2, HIDDEN).half()
            state[f"{attention}.{name}.lora_B.weight"] = draw(HIDDEN, 2).half()
        state[f"{attention}.rotary_emb.inv_freq"] = draw(4)
    state["llama_proj.weight"] = draw(HIDDEN, WIDTH)
    state["llama_proj.bias"] = draw(HIDDEN)
    return state


def test_the_outline_names_what_the_model_trains(home: Path) -> None:
    outline = Outline(config_of(home))
    assert {p.device.type for p in outline.parameters()} == {"meta"}
    model = load_gemkr(config_of(home))
    assert outline.shapes() == {name: p.shape for name, p in model.trainable_parameters().items()}
    whole = replace(config_of(home), lora=None, train_llm=True, tower=None)
    assert Outline(whole).shapes() == {
        n: p.shape for n, p in load_gemkr(whole).trainable_parameters().items()
    }


def test_an_imported_checkpoint_computes_what_theirs_does(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "imported"
    given = [
        "import-checkpoint",
        str(home / "checkpoint_4.pth"),
        "-o",
        str(output),
        "--config",
        str(home / "eval.yaml"),
    ]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert "frozen in their training: ln_vision.weight = 1" in printed
    assert "not needed: 2 tensors" in printed
    assert printed.endswith(f"{output}\n")
    assert read_checkpoint(output).state == {"imported": "checkpoint_4.pth", "beside": {"epoch": 4}}
    model = load_model(replace(config_of(home), checkpoint=str(output))).to("cpu")
    build = model.input_builder(PictureFolder(home / "images"), RegionStore.open(home / "store"))
    example = build(Query("1", "What is this ?", image="a"))
    with torch.no_grad():
        logits, _ = model.prefill([example])
        ours = model._visual_tokens(model.collate([example]))[0, :3]
        expected = their_visual_tokens(home, example.pixels)
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=2e-5)
        plain = their_llm(home)
        tokens = torch.from_numpy(example.sample.tokens)[None]
        embeddings = plain.get_input_embeddings()(tokens)
        embeddings[0, torch.from_numpy(example.sample.visual)] = expected
        wanted = plain(inputs_embeds=embeddings).logits[:, -1]
    np.testing.assert_allclose(logits.numpy(), wanted.numpy(), atol=1e-4)
    assert main(given) == 1
    assert "exists already" in capsys.readouterr().err


def their_visual_tokens(home: Path, pixels: Tensor) -> Tensor:
    """float32[3, HIDDEN], computed anew from their state: the frozen trunk's own weights, dual-flow attention, LN, linear."""
    state = their_state()
    trunk = load_tower(config_of(home).tower).visual.trunk
    features = torch.from_numpy(RegionStore.open(home / "store").get("a").features.astype(np.float32))
    padded = torch.cat([features, torch.zeros(ROWS - len(features), WIDTH)])
    table = state["visual_encoder.adapter_query.weight"].reshape(PREFIXED, ROWS, WIDTH)
    x, rope = trunk._pos_embed(trunk.patch_embed(pixels[None]))
    rows = None
    for number, block in enumerate(trunk.blocks):
        normed = block.norm1(x)
        added = block.attn(normed, rope=rope)
        if number >= BLOCKS - PREFIXED:
            rows = table[number - (BLOCKS - PREFIXED)] + padded
            gate = state[f"visual_encoder.blocks.{number}.attn.gate"]
            weights = block.attn.qkv.weight.chunk(3)
            query = heads_of(F.linear(normed[0], weights[0], block.attn.q_bias))
            key = heads_of(F.linear(rows, weights[1]))
            value = heads_of(F.linear(rows, weights[2], block.attn.v_bias))
            scores = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
            seen = gate[0] * scores.softmax(-1) @ value
            added = added + seen.transpose(0, 1).flatten(-2) @ block.attn.proj.weight.T
        x = x + added
        x = x + block.mlp(block.norm2(x))
    states = torch.cat([x[0, :1], rows[:2]])
    normed = F.layer_norm(states, (WIDTH,))
    return normed @ state["llama_proj.weight"].T + state["llama_proj.bias"]


def heads_of(x: Tensor) -> Tensor:
    """[N, width] -> [heads, N, width / heads]."""
    return x.unflatten(-1, (HEADS, -1)).transpose(0, 1)


def their_llm(home: Path) -> LlamaForCausalLM:
    """The base LLM with LoRA (alpha / r = 2) added into its weights."""
    llm = LlamaForCausalLM.from_pretrained(home / "llm").eval()
    state = their_state()
    for layer in range(LAYERS):
        for name in ("q_proj", "v_proj"):
            stem = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{name}"
            a, b = state[f"{stem}.lora_A.weight"].float(), state[f"{stem}.lora_B.weight"].float()
            getattr(llm.model.layers[layer].self_attn, name).weight.data += 2 * b @ a
    return llm


def test_newer_names_and_a_saved_layer_norm_are_understood(home: Path) -> None:
    state = {name.replace(".lora_A.", ".lora_A.default."): v for name, v in their_state().items()}
    state |= {"ln_vision.weight": torch.full((WIDTH,), 3.0), "ln_vision.bias": torch.ones(WIDTH)}
    state["visual_encoder.blocks.0.attn.gate"] = torch.zeros(1, HEADS, 1, 1)
    result = translate(state, config_of(home), "x")
    assert result.assumed == []
    assert "visual_encoder.blocks.0.attn.gate" in result.ignored
    assert float(result.weights["projector.norm.weight"][0]) == 3.0
    assert result.weights.keys() == Outline(config_of(home)).shapes().keys()
    assert {value.dtype for value in result.weights.values()} == {torch.float32}


def test_every_misfit_is_named_in_one_sentence(home: Path) -> None:
    state = their_state()
    q = "llama_model.base_model.model.model.layers.{}.self_attn.q_proj.lora_A.weight"
    for layer in range(LAYERS):
        del state[q.format(layer)]
    del state["llama_proj.bias"]
    state |= {"Qformer.bert.embeddings.position_ids": torch.zeros(1), "query_tokens": torch.zeros(1)}
    state["visual_encoder.adapter_query.weight"] = torch.zeros(7, WIDTH)
    state["visual_encoder.blocks.4.attn.gate"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as error:
        translate(state, config_of(home), "theirs.pth")
    message = str(error.value)
    for part in (
        "lacks llama_model.base_model.model.model.layers.{0-1}.self_attn.q_proj.lora_A.weight, llama_proj.bias",
        "has the unknown Qformer.bert.embeddings.position_ids, query_tokens",
        "visual_encoder.adapter_query.weight has shape [7, 192] instead of [8, 192] (2 blocks of 4 rows)",
        "visual_encoder.blocks.4.attn.gate has shape [1] instead of [1, 3, 1, 1]",
    ):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tower": TowerConfig(config="{home}/eva.json")}, r"ends after 5 blocks .* after 12; set model\.tower\.depth: 5"),
        ({"lora": LoraConfig(r=2, alpha=2)}, r"model\.lora\.alpha: 2 times r, the configuration has 2"),
        ({"visual_tokens": VisualTokensConfig(regions=True)}, r"model\.visual_tokens\.regions: false"),
        ({"visual_tokens": VisualTokensConfig(regions=False, prefix_rows=1)}, r"prefix_rows: 2, the configuration has 1"),
        ({"lora": LoraConfig(r=2, alpha=4, dora=True)}, r"model\.lora\.dora: false, the configuration has True"),
        ({"tower": None}, r"model\.tower"),
        ({"lora": None}, r"model\.lora"),
    ],
)  # fmt: skip
def test_a_configuration_of_another_design_is_refused(home: Path, changes: dict, reason: str) -> None:
    if changes.get("tower"):
        changes = {"tower": replace(changes["tower"], config=str(home / "eva.json"))}
    with pytest.raises(CheckpointError, match=reason):
        translate(their_state(), replace(config_of(home), **changes), "x")


def test_nan_is_refused(home: Path) -> None:
    state = their_state()
    state["llama_proj.bias"][3] = torch.nan
    with pytest.raises(CheckpointError, match=r"NaN or infinity in projector\.linear\.bias"):
        translate(state, config_of(home), "x")


class Surprise:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("surprise",)


def test_only_tensors_and_plain_values_are_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "config": Surprise()}, "hostile.pth")
    with pytest.raises(CheckpointError, match="nothing else is unpickled"):
        read_published("hostile.pth")
    assert not Path("surprise").exists()
    Path("text.pth").write_text("no archive")
    torch.save({"state": {}}, "other.pth")
    torch.save({"model": {"a": 1}}, "numbers.pth")
    for name, reason in {
        "absent.pth": "cannot be read: No such file",
        "text.pth": "is no",
        "other.pth": "holds no state dict under 'model'",
        "numbers.pth": "a under 'model' must be tensors",
    }.items():
        with pytest.raises(CheckpointError, match=reason):
            read_published(name)
