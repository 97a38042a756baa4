"""The network in miniature: frozen at the start, blind to padding, the same in batches and alone, step by step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from PIL import Image
from transformers import LlamaConfig, LlamaForCausalLM

from gemkr.errors import CheckpointError, DataError, ModelError, VisionError
from gemkr.models.gemkr.config import ModelConfig, PrefixConfig, VisualTokensConfig
from gemkr.models.gemkr.inputs import Example, InputBuilder
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.hf.config import LoraConfig, PromptConfig
from gemkr.models.weights import load_weights
from gemkr.training.checkpoints.checkpoint import save_checkpoint
from gemkr.training.checkpoints.origin import Origin, origins_differ, require_bases
from gemkr.training.checkpoints.trained import load_model
from gemkr.types import Query
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.config import TowerConfig
from gemkr.vision.encode import load_tower
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore
from gemkr.vision.store_writer import RegionStoreWriter

TINY_VIT = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 24, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1},
}
REGIONS = {"a": 2, "b": 0, "c": 3}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything a model needs: tower config and weights, LLM, pictures, a region store."""
    home = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    text = home / "text.txt"
    text.write_text(
        "What is the capital of France ? ### Image : Question Response short long , . task\n" * 20
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(home / "tokenizer"), vocab_size=60, model_type="bpe", byte_fallback=False,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2, num_threads=1,
    )  # fmt: skip
    (home / "vit.json").write_text(json.dumps(TINY_VIT))
    tower = load_tower(TowerConfig(config=str(home / "vit.json")))
    weights = {f"visual.{name}": value for name, value in tower.visual.state_dict().items()}
    torch.save(weights | {"visual.proj": torch.randn(24, 12)}, home / "vit.pt")
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(home / "llm")
    (home / "tokenizer.model").rename(home / "llm" / "tokenizer.model")
    (home / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in REGIONS:
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(
            home / "images" / f"{name}.png"
        )
    tower = load_tower(tower_config(home))
    pictures = [
        PictureBoxes(name, (60, 40), rng.uniform(0, 40, (n, 4)).astype(np.float32), ("x",) * n, (0.5,) * n)
        for name, n in REGIONS.items()
    ]
    plan = {"detector": "none", "encoder": tower.fingerprint}
    writer = RegionStoreWriter(home / "store", pictures, rows=4, width=24, plan=plan)
    writer.add([rng.normal(size=(n, 24)) for n in REGIONS.values()])
    writer.finish()
    return home


def tower_config(home: Path) -> TowerConfig:
    return TowerConfig(config=str(home / "vit.json"), weights=str(home / "vit.pt"))


def model_config(home: Path, **changes) -> ModelConfig:
    config = ModelConfig(
        llm=str(home / "llm"),
        tower=tower_config(home),
        prefix=PrefixConfig(blocks=2, rows=4),
        visual_tokens=VisualTokensConfig(cls=True, prefix_rows=2, regions=True),
        lora=LoraConfig(r=2, alpha=4, dropout=0.0),
    )
    return replace(config, **changes)


def builder_of(model: GeMKR, home: Path) -> InputBuilder:
    return model.input_builder(PictureFolder(home / "images"), RegionStore.open(home / "store"))


@pytest.fixture
def model(home: Path) -> GeMKR:
    torch.manual_seed(1)
    return wake(load_gemkr(model_config(home)))


def wake(model: GeMKR) -> GeMKR:
    """Give everything that learns a value of its own, so that every path counts."""
    torch.manual_seed(2)
    for parameter in model.trainable_parameters().values():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


@pytest.fixture
def examples(model: GeMKR, home: Path) -> list[Example]:
    """A full query, one without regions, one without question, one without picture."""
    build = builder_of(model, home)
    queries = [
        Query("1", "What is the capital ?", "a"),
        Query("2", "What is France ?", "b"),
        Query("3", "", "c"),
        Query("4", "the capital of France ?"),
    ]
    return [build(q, clue=list(range(5, 6 + i)), form="short") for i, q in enumerate(queries)]


def test_batch_and_single_agree(model: GeMKR, examples: list[Example]) -> None:
    sums, counts = model.token_losses(model.collate(examples))
    for i, example in enumerate(examples):
        alone, n = model.token_losses(model.collate([example]))
        assert n.item() == counts[i].item() == i + 2
        torch.testing.assert_close(alone[0], sums[i], rtol=1e-4, atol=1e-5)
    assert model(model.collate(examples)).item() == pytest.approx(
        (sums.sum() / counts.sum()).item(), rel=1e-5
    )


def test_padded_region_rows_never_matter(model: GeMKR, examples: list[Example]) -> None:
    before, _ = model.token_losses(model.collate(examples))
    for example in examples[:3]:
        count = len(example.regions.order)
        example.regions.features[count:] = np.nan
        example.regions.boxes[count:] = 7.0
    after, _ = model.token_losses(model.collate(examples))
    assert torch.equal(before, after)


def test_a_real_region_matters_to_tower_and_prompt(model: GeMKR, home: Path) -> None:
    pixels = torch.randn(1, 3, 32, 32)
    features = torch.randn(1, 4, 24)
    frozen, _ = model.tower(pixels, torch.zeros(1, 4, 24))
    seen, rows = model.tower(pixels, features)
    assert not torch.allclose(frozen, seen, atol=1e-4)
    assert rows.shape == (1, 4, 24)
    build = builder_of(model, home)
    example = build(Query("1", "What ?", "a"), clue=[5])
    before = model(model.collate([example])).item()
    example.regions.features[0] += 1
    assert model(model.collate([example])).item() != pytest.approx(before, abs=1e-6)


def test_only_the_intended_parameters_learn(model: GeMKR, examples: list[Example]) -> None:
    model.train()
    model(model.collate(examples)).backward()
    with_gradient = {
        name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert with_gradient == set(model.trainable_parameters())
    kinds = {"lora_A", "lora_B", "prefix", "gate", "projector"}
    assert all(any(kind in name for kind in kinds) for name in with_gradient)
    assert {kind for kind in kinds for name in with_gradient if kind in name} == kinds
    assert not model.tower.tower.training


def test_a_fresh_model_starts_from_the_frozen_tower(home: Path) -> None:
    fresh = load_gemkr(model_config(home))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        cls, _ = fresh.tower(pixels, torch.randn(2, 4, 24))
        assert torch.equal(cls, load_tower(tower_config(home))(pixels))


def test_prefill_and_steps_equal_the_full_forward(model: GeMKR, examples: list[Example], home: Path) -> None:
    batch = model.collate(examples)
    embeddings = model._embeddings(batch)
    full = model.llm.logits(embeddings, batch.mask, last=embeddings.shape[1])
    build = builder_of(model, home)
    queries = [
        Query("1", "What is the capital ?", "a"),
        Query("2", "What is France ?", "b"),
        Query("3", "", "c"),
    ]
    logits, state = model.prefill([build(q, form="short") for q in queries])
    for step in range(3):
        for i, example in enumerate(examples[:3]):
            learned = len(example.sample.tokens) - example.sample.prompt_length
            if step < learned:
                expected = full[i, full.shape[1] - learned + step - 1]
                torch.testing.assert_close(logits[i], expected, rtol=1e-4, atol=1e-4)
        logits, state = model.step(torch.tensor([5 + step] * 3), state)


def test_select_continues_rows_and_leaves_the_old_state(model: GeMKR, home: Path) -> None:
    build = builder_of(model, home)
    prompts = [build(Query("1", "What is the capital ?", "a")), build(Query("2", "France ?"))]
    _, state = model.prefill(prompts)
    before, _ = model.step(torch.tensor([5, 6]), state)
    wide, wide_state = model.step(torch.tensor([6, 5, 6]), state.select(torch.tensor([1, 0, 1])))
    torch.testing.assert_close(wide[0], before[1])
    torch.testing.assert_close(wide[1], before[0])
    torch.testing.assert_close(wide[2], before[1])
    again, _ = model.step(torch.tensor([5, 6]), state)
    assert torch.equal(before, again)
    assert len(wide_state.owner) == 3


def test_visual_tokens_follow_the_configuration(home: Path) -> None:
    query = Query("1", "What ?", "c")
    for cls, rows, regions, expected in [(1, 2, 1, 6), (1, 0, 0, 1), (0, 0, 1, 3), (0, 3, 1, 6)]:
        shown = VisualTokensConfig(cls=bool(cls), prefix_rows=rows, regions=bool(regions))
        model = load_gemkr(model_config(home, visual_tokens=shown))
        example = builder_of(model, home)(query, clue=[5])
        assert len(example.sample.visual) == expected
        assert (example.pixels is None) == (cls + rows == 0)
        assert torch.isfinite(model(model.collate([example])))


def test_regions_are_shown_in_reading_order(model: GeMKR, home: Path) -> None:
    example = builder_of(model, home)(Query("1", "What ?", "c"), clue=[5])
    centres = example.regions.boxes[example.regions.order][:, [0, 2]].sum(axis=1)
    assert (np.diff(centres) >= 0).all()
    before = model(model.collate([example])).item()
    swapped = np.array([1, 0, 2, 3])
    example.regions.features[:] = example.regions.features[swapped]
    example.regions.boxes[:] = example.regions.boxes[swapped]
    example.regions.order[:] = np.argsort(swapped)[example.regions.order]
    for attention in model.tower.attentions:
        attention.prefix.data[:] = attention.prefix[0]
    one = model(model.collate([example])).item()
    example.regions.order[:] = example.regions.order[::-1].copy()
    assert model(model.collate([example])).item() != pytest.approx(one, abs=1e-6)
    assert np.isfinite(before)


def test_text_only_models_and_ablations(home: Path) -> None:
    text_only = load_gemkr(model_config(home, tower=None, prompt=PromptConfig(caption=True)))
    build = text_only.input_builder(PictureFolder(home / "images"))
    example = build(Query("1", "What ?", "a", caption="France"), clue=[5])
    assert example.pixels is None
    assert len(example.sample.visual) == 0
    assert torch.isfinite(text_only(text_only.collate([example])))
    with pytest.raises(DataError, match="'9'"):
        build(Query("9", "", "a"))
    model = load_gemkr(model_config(home))
    no_regions = model.input_builder(PictureFolder(home / "images"))(Query("1", "What ?", "a"))
    assert len(no_regions.sample.visual) == 3
    no_picture = model.input_builder()(Query("1", "What ?", "a"))
    assert len(no_picture.sample.visual) == 0


def test_trained_state_round_trip(model: GeMKR, examples: list[Example], home: Path) -> None:
    state = model.trained_state()
    other = load_gemkr(model_config(home))
    load_weights(other.trainable_parameters(), state, "the checkpoint")
    batch = model.collate(examples)
    assert other(batch).item() == model(batch).item()
    with pytest.raises(CheckpointError, match=r"projector\.box\.weight"):
        load_weights(
            other.trainable_parameters(),
            {k: v for k, v in state.items() if k != "projector.box.weight"},
            "here",
        )


def test_misfits_are_named(home: Path, model: GeMKR) -> None:
    build = builder_of(model, home)
    with pytest.raises(VisionError, match="'nowhere'"):
        build(Query("1", "What ?", "nowhere"))
    with pytest.raises(ModelError, match="prefix_rows is 9"):
        load_gemkr(model_config(home, visual_tokens=VisualTokensConfig(prefix_rows=9)))
    with pytest.raises(ModelError, match="'fp8'"):
        load_gemkr(model_config(home, precision="fp8"))
    with pytest.raises(ModelError, match="LoRA cannot be added"):
        load_gemkr(model_config(home, lora=LoraConfig(targets=".*nothing")))
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_gemkr(model_config(home, llm=str(home / "images"), tokenizer=str(home / "llm")))
    with pytest.raises(VisionError, match="has 3 blocks"):
        load_gemkr(model_config(home, prefix=PrefixConfig(blocks=4, rows=4)))
    other = load_gemkr(model_config(home, tower=TowerConfig(config=str(home / "vit.json"))))
    with pytest.raises(ModelError, match="come from the tower"):
        builder_of(other, home)
    with pytest.raises(ModelError, match="no clue"):
        model(model.collate([build(Query("1", "What ?", "a"))]))


def test_bf16_on_the_cpu(home: Path) -> None:
    model = wake(load_gemkr(model_config(home, precision="bf16")))
    assert {p.dtype for p in model.trainable_parameters().values()} == {torch.float32}
    example = builder_of(model, home)(Query("1", "What ?", "a"), clue=[5])
    loss = model(model.collate([example]))
    loss.backward()
    assert loss.dtype == torch.float32
    logits, _ = model.prefill([example])
    assert logits.dtype == torch.float32


def test_a_checkpoint_is_refused_over_other_frozen_weights(home: Path, tmp_path: Path, model: GeMKR) -> None:
    places = {"model": {"llm": "models/llm", "tower": {"weights": "models/vit.pt"}}}
    trained = Origin("gemkr", model.tokenizer.fingerprint(), "data", places, model.bases())
    assert len(trained.bases["llm"]) >= 64
    save_checkpoint(tmp_path / "final", trained, model.trained_state())
    settings = model_config(home, checkpoint=str(tmp_path / "final"))
    for precision in ("fp32", "bf16", "fp16"):
        load_model(replace(settings, precision=precision))

    other = LlamaForCausalLM.from_pretrained(home / "llm")
    with torch.no_grad():  # as fine-tuning would: all but alike
        for parameter in other.parameters():
            parameter.add_(0.02 * parameter.std() * torch.randn_like(parameter))
    other.save_pretrained(tmp_path / "llm")
    elsewhere = replace(settings, llm=str(tmp_path / "llm"), tokenizer=str(home / "llm"))
    with pytest.raises(
        CheckpointError, match=r"trained on the LLM models/llm with .*set model\.llm to what it was"
    ):
        load_model(elsewhere)
    tower = torch.load(home / "vit.pt")
    torch.save({name: value + 0.1 for name, value in tower.items()}, tmp_path / "vit.pt")
    seen = replace(settings, tower=replace(settings.tower, weights=str(tmp_path / "vit.pt")))
    with pytest.raises(
        CheckpointError,
        match=r"trained on the vision tower models/vit\.pt of hash [0-9a-f]{12}, this .*set model\.tower",
    ):
        load_model(seen)
    now = replace(trained, bases=load_gemkr(replace(elsewhere, checkpoint=None)).bases())
    assert origins_differ(trained, now, frozenset()).startswith("llm was with ")

    whole = load_gemkr(model_config(home, lora=None, train_llm=True))
    assert whole.bases().keys() == {"tower"}
    require_bases(replace(trained, bases={}), model.bases(), "one that does not tell")
