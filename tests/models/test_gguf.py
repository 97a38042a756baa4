"""GGUF files: the same LLaMA and the same tokens as in a Hugging Face folder, and what is wrong in one sentence."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from tiny_gguf import tiny_llama, write_gguf
from toy_text import TEXTS, train_byte_level

from gemkr.errors import ModelError, TokenizerError
from gemkr.fm_index import FMIndex
from gemkr.fm_index.errors import TokenizerMismatchError
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import load_gemkr
from gemkr.models.gemkr.outline import Outline
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.gguf_llama import read_gguf_llama, write_llama_folder
from gemkr.models.hf.llm_folder import load_llm
from gemkr.text.tokenizer import load_tokenizer, text_read
from gemkr.training.llama import save_llama

HARD = [*TEXTS, "It is 1889  2 ten\t345th's 😀", ""]


def logits(path: Path) -> torch.Tensor:
    llm = load_llm(str(path), lora=None, train_llm=False, precision="fp32").eval()
    tokens = torch.arange(2, 40)[None]
    with torch.no_grad():
        return llm.logits(llm.embed(tokens), torch.ones_like(tokens), 38)[0]


def true_logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(2, 40)[None]).logits[0]


@pytest.mark.parametrize("tied", [True, False])
def test_reads_the_model_that_was_written(tmp_path: Path, tied: bool) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", tied=tied)
    assert torch.equal(logits(tmp_path / "tiny.gguf"), true_logits(model))
    read = read_gguf_llama(tmp_path / "tiny.gguf", torch.float32)
    assert read.config.tie_word_embeddings == tied
    held = model.state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in read.state_dict().items())


@pytest.mark.parametrize(("kind", "off"), [(Kind.F16, 1e-3), (Kind.Q8_0, 1e-2), (Kind.Q4_1, 0.15)])
def test_reads_blocks_as_near_as_they_were_stored(tmp_path: Path, kind: Kind, off: float) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", kind=kind)
    read = read_gguf_llama(tmp_path / "tiny.gguf", torch.float32).state_dict()
    for name, weights in model.state_dict().items():
        error = (read[name] - weights).norm() / weights.norm()
        assert error < off, name
    assert any(not torch.equal(read[name], weights) for name, weights in model.state_dict().items())


def test_a_folder_made_of_it_is_the_same_model_and_tokenizer(tmp_path: Path) -> None:
    file, folder = tmp_path / "tiny.gguf", tmp_path / "folder"
    write_gguf(file)
    folder.mkdir()
    write_llama_folder(file, folder, torch.float32)
    assert torch.equal(logits(folder), logits(file))
    direct, laid_out = load_tokenizer(file), load_tokenizer(folder)
    assert direct.fingerprint() == laid_out.fingerprint()
    assert (laid_out.bos_id, laid_out.eos_ids) == (0, (1,)) == (direct.bos_id, direct.eos_ids)
    assert laid_out.special_ids == direct.special_ids
    assert np.array_equal(laid_out.word_start, direct.word_start)
    assert [laid_out.encode(text) for text in HARD] == [direct.encode(text) for text in HARD]
    assert all(direct.decode(direct.encode(text)) == text_read(direct, text) for text in HARD)


def test_its_tokens_are_those_its_vocabulary_was_learned_with(tmp_path: Path) -> None:
    write_gguf(tmp_path / "plain.gguf", pre="gpt-2")
    write_gguf(tmp_path / "apart.gguf", pre="smollm")
    learned, plain, apart = (
        load_tokenizer(path)
        for path in (
            train_byte_level(tmp_path / "learned"),
            tmp_path / "plain.gguf",
            tmp_path / "apart.gguf",
        )
    )
    assert [plain.encode(text) for text in HARD] == [learned.encode(text) for text in HARD]
    pieces = [apart.piece(token) for token in apart.encode("Tokyo in 1964")]
    assert pieces[-5:] == ["Ġ", "1", "9", "6", "4"]
    assert [plain.piece(token) for token in plain.encode("Tokyo in 1964")] != pieces


def test_a_whole_network_and_its_outline_load_from_it(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(file)
    config = ModelConfig(llm=str(file), lora=LoraConfig(r=2, alpha=4))
    model = load_gemkr(config)
    learned = {name: parameter.shape for name, parameter in model.trainable_parameters().items()}
    assert learned == Outline(config).shapes()
    assert learned


def test_a_model_pretrained_with_its_tokenizer_keeps_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    tokenizer = load_tokenizer(tmp_path / "tiny.gguf")
    save_llama(tiny_llama(tokenizer.vocab_size), tokenizer, tmp_path / "llm")
    assert load_tokenizer(tmp_path / "llm").fingerprint() == tokenizer.fingerprint()


def test_an_index_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "one.gguf", pre="gpt-2")
    one, other = load_tokenizer(tmp_path / "one.gguf"), load_tokenizer(tmp_path / "one.tokenizer")
    two = load_tokenizer(train_byte_level(tmp_path / "two", vocab_size=400))
    index = FMIndex.build(
        [one.encode(text) for text in TEXTS],
        vocab_size=one.vocab_size,
        tokenizer=one,
        doc_ids=[str(number) for number in range(len(TEXTS))],
    )
    index.check_tokenizer(other)
    with pytest.raises(
        TokenizerMismatchError, match=r"not with the tokenizer .*give the tokenizer that it was built with"
    ):
        index.check_tokenizer(two)


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as failure:
        load_llm(str(path), lora=None, train_llm=False, precision="fp32")
    said = str(failure.value)
    assert str(path) in said
    assert "\n" not in said
    return said


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", architecture="gemma")
    said = refused(tmp_path / "tiny.gguf")
    assert "holds a model of the architecture gemma, only llama can be read from GGUF" in said
    with pytest.raises(ModelError, match="architecture gemma"):
        Outline(ModelConfig(llm=str(tmp_path / "tiny.gguf")))


def test_a_quantisation_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", kind=Kind.Q8_K)
    said = refused(tmp_path / "tiny.gguf")
    assert "is quantised as Q8_K, which cannot be read; give the same model in another quantisation" in said


def test_a_kind_of_number_that_the_package_has_never_heard_of_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(file)
    content = bytearray(file.read_bytes())
    at = content.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 2 * 8
    content[at : at + 4] = (999).to_bytes(4, "little")
    file.write_bytes(content)
    assert re.search(r"cannot be read: .*999.*another quantisation", refused(file))


def test_scaled_positions_are_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", scaled=True)
    assert "scales its positions (llama.rope.scaling.factor)" in refused(tmp_path / "tiny.gguf")


def test_absent_tensors_are_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", without="blk.1.ffn_up.weight")
    assert "lacks model.layers.1.mlp.up_proj.weight and 0 more" in refused(tmp_path / "tiny.gguf")


@pytest.mark.parametrize("name", ["blk.1.attn_q.bias", "blk.0.ffn_gate_inp.weight"])
def test_weights_that_would_be_passed_over_are_refused(tmp_path: Path, name: str) -> None:
    """llama.cpp calls LLaMAs with biases and mixtures of experts llama too."""
    write_gguf(tmp_path / "tiny.gguf", beside=name)
    assert f"holds {name} and 0 more weights that a plain LLaMA has not" in refused(tmp_path / "tiny.gguf")


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", heads=8)
    said = refused(tmp_path / "tiny.gguf")
    assert re.search(
        r"self_attn\.\w_proj\.weight in the GGUF file .* has the shape .* its description needs", said
    )


def test_the_end_of_the_name_may_be_in_capitals(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "tiny.gguf")
    path = (tmp_path / "tiny.gguf").rename(tmp_path / "TINY.GGUF")
    assert torch.equal(logits(path), true_logits(model))
    assert load_tokenizer(path).vocab_size == model.config.vocab_size


@pytest.mark.parametrize("kept", [0, 3, 100, 5000])
def test_a_damaged_file_is_refused(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "tiny.gguf"
    write_gguf(file)
    file.write_bytes(file.read_bytes()[:kept])
    assert "cannot be read" in refused(file)
    with pytest.raises(ModelError, match="cannot be read"):
        load_tokenizer(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "tiny.gguf")
    with pytest.raises(TokenizerError, match="does not exist"):
        load_tokenizer(tmp_path / "tiny.gguf")


def test_without_the_package_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "needs the package gguf; pip install 'gemkr[model]'" in refused(tmp_path / "tiny.gguf")
    with pytest.raises(ModelError, match=r"pip install 'gemkr\[model\]'"):
        load_tokenizer(tmp_path / "tiny.gguf")
