"""The LLM wrapper on a real, trained LLaMA: what llama2.c writes greedily, our KV cache writes too."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from stories import load_pieces, load_stories
from transformers import LlamaConfig, LlamaForCausalLM

from gemkr.errors import ModelError
from gemkr.models.gemkr import branches
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.llm import LLM
from gemkr.models.hf.llm_folder import add_lora, load_llm

GREEDY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, "
    "red ball. She wanted to play with it, but it was too high."
)
BOS = 1


def save_llama(folder: Path, *, layers: int = 2, tied: bool = False) -> Path:
    size = LlamaConfig(
        vocab_size=40, hidden_size=8, intermediate_size=12, num_hidden_layers=layers, num_attention_heads=2,
        tie_word_embeddings=tied,
    )  # fmt: skip
    torch.manual_seed(4)
    LlamaForCausalLM(size).save_pretrained(folder)
    return folder


def change(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors whose names end with a key, `__` for the point; None takes them out."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for end, value in changes.items():
        for name in [name for name in tensors if name.endswith(end.replace("__", "."))]:
            del tensors[name]
            if value is not None:
                tensors[name] = value
    save_file(tensors, file, metadata={"format": "pt"})


def load(folder: Path) -> LLM:
    return load_llm(str(folder), lora=None, train_llm=False, precision="fp32")


def test_dora_sets_the_length_of_each_row(tmp_path: Path) -> None:
    """Against the paper's formula: magnitude times (W + alpha / r B A), each row of it divided by its length."""
    folder = save_llama(tmp_path / "llm")
    plain, adapted = load(folder).model, load(folder).model
    add_lora(adapted, LoraConfig(r=3, alpha=6, targets=r".*\.(q|v|down)_proj", dora=True))
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(adapted.eval()(tokens).logits, plain(tokens).logits)
        changed = 0
        for name, module in adapted.named_modules():
            if not hasattr(module, "lora_magnitude_vector"):
                continue
            a, b = module.lora_A.default.weight, module.lora_B.default.weight.normal_()
            length = module.lora_magnitude_vector.default.weight.normal_()
            sum_ = module.base_layer.weight + 2 * b @ a
            plain.get_submodule(name).weight.copy_(length[:, None] * sum_ / sum_.norm(dim=1, keepdim=True))
            changed += 1
        assert changed == 6
        torch.testing.assert_close(adapted(tokens).logits, plain(tokens).logits, atol=1e-5, rtol=1e-5)
    learned = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert sum("lora_magnitude_vector" in name for name in learned) == changed


def test_weights_that_lack_tensors_are_refused(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "llm")
    change(folder, up_proj__weight=None, down_proj__weight=None)
    said = (
        rf"weights in the LLM folder {folder} are not those .* \(llama, vocabulary \d+\): model\.layers\.0\.mlp\.down_proj\.weight is "
        "missing, and 3 more are missing or of another shape; copy or download the whole folder of one model again"
    )
    with pytest.raises(ModelError, match=said):
        load(folder)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "llm")
    change(folder, lm_head__weight=torch.zeros(30, 8))
    with pytest.raises(ModelError, match=r"lm_head\.weight has shape \[30, 8\] instead of \[40, 8\]; copy"):
        load(folder)


def test_an_output_may_be_absent_only_when_it_is_tied(tmp_path: Path) -> None:
    tied, untied = save_llama(tmp_path / "tied", tied=True), save_llama(tmp_path / "untied")
    assert not any("lm_head" in name for name in load_file(tied / "model.safetensors"))
    model = load(tied).model
    assert torch.equal(
        model.lm_head.weight, load_file(tied / "model.safetensors")["model.embed_tokens.weight"]
    )
    change(untied, lm_head__weight=None)
    with pytest.raises(ModelError, match=r"\(llama, vocabulary 40\): lm_head\.weight is missing; copy"):
        load(untied)


def test_a_checkpoint_is_no_llm_folder(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "final")
    (folder / "model.safetensors").rename(folder / "trained.safetensors")
    with pytest.raises(ModelError, match=r"final is a checkpoint of gemkr; set model\.checkpoint to it"):
        load(folder)


def test_weights_saved_from_a_bigger_model_load(tmp_path: Path) -> None:
    folder, bigger = save_llama(tmp_path / "llm"), save_llama(tmp_path / "bigger", layers=3)
    weights = (bigger / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights)
    held = load_file(bigger / "model.safetensors")
    own = load(folder).model.state_dict()
    assert own.keys() < held.keys()
    assert all(torch.equal(tensor, held[name]) for name, tensor in own.items())


@pytest.mark.parametrize("damage", ["cut", "empty", "empty pickle", "foreign pickle", "list"])
def test_damaged_weights_are_named(damage: str, tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "llm")
    file = folder / "model.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        file.unlink()
        pickled = folder / "pytorch_model.bin"
        pickled.write_bytes(b"")
        if damage != "empty pickle":
            torch.save(torch.nn.Linear(1, 1) if damage == "foreign pickle" else [1, 2], pickled)
    with pytest.raises(ModelError, match=f"the LLM folder {folder} cannot be loaded: "):
        load(folder)


@pytest.fixture(scope="module")
def stories(shared_data: Path) -> LLM:
    return LLM(load_stories(shared_data / "stories260K" / "stories260K.bin"))


@pytest.mark.shared
@torch.no_grad()
def test_greedy_text_is_the_published_one(stories: LLM, shared_data: Path) -> None:
    pieces = load_pieces(shared_data / "stories260K" / "tok512.bin")
    logits, state = stories.prefill(stories.embed(torch.tensor([[BOS]])), torch.ones(1, 1, dtype=torch.int64))
    state, text = BranchState.root(state), ""
    while len(text) <= len(GREEDY):
        token = logits.argmax(dim=1)
        text += pieces[int(token)]
        logits, state = branches.step(stories, token, state)
    assert text.strip().startswith(GREEDY)


@pytest.mark.shared
@torch.no_grad()
def test_left_padding_cache_and_selection_change_nothing(stories: LLM) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, 512, (n,), generator=generator) for n in (9, 4, 1)]
    mask = torch.tensor([[0] * (9 - len(row)) + [1] * len(row) for row in rows])
    tokens = torch.stack([torch.nn.functional.pad(row, (9 - len(row), 0)) for row in rows])
    logits, state = stories.prefill(stories.embed(tokens), mask)
    order = [2, 0, 0, 1]
    state = BranchState.root(state).select(torch.tensor(order))
    after, state = branches.step(stories, torch.tensor([7, 8, 9, 10]), state)
    after, _ = branches.step(stories, torch.tensor([11, 12, 13, 14]), state)
    for i, row in enumerate(order):
        alone = torch.cat([rows[row], torch.tensor([7 + i, 11 + i])])[None]
        full = stories.logits(stories.embed(alone), torch.ones_like(alone), last=3)[0]
        torch.testing.assert_close(logits[row], full[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(after[i], full[2], rtol=1e-4, atol=1e-4)


def test_loading_and_decoding_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    folder = save_llama(tmp_path / "llm")
    capfd.readouterr()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        llm = load(folder)
        tokens = torch.tensor([[1, 5, 9]])
        logits, state = llm.prefill(llm.embed(tokens), torch.ones_like(tokens))
        stepped, _ = branches.step(llm, torch.tensor([7]), BranchState.root(state))
    assert torch.isfinite(torch.stack([logits, stepped])).all()
    assert capfd.readouterr() == ("", "")
