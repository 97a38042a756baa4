"""Vocabulary and pre-training on a corpus of a few hundred lines: packing, resumption, the folder that comes out."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gemkr.config.files import load_config
from gemkr.errors import CheckpointError, ConfigError, DataError, TokenizerError
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training import cooccurrence
from gemkr.training.config import EmbeddingsConfig, LlamaConfig, PretrainConfig, VocabularyConfig
from gemkr.training.cooccurrence import _count, _ppmi_
from gemkr.training.llama import build_llama, save_llama
from gemkr.training.loop.config import OptimizerConfig
from gemkr.training.loop.log import read_rows
from gemkr.training.packing import PackedRows, pack
from gemkr.training.pretrain import pretrain

ANIMALS = ["fox", "hen", "otter", "heron", "badger", "mole"]
PLACES = ["river", "wood", "barn", "meadow", "marsh"]


def sentences() -> list[str]:
    return [
        f"The {a} number {n} lives in the {p} near {n * 7} houses."
        for n in range(9)
        for a in ANIMALS
        for p in PLACES
    ]


@pytest.fixture
def config(tmp_path: Path) -> PretrainConfig:
    rows = "".join(f"{i},{text}\n" for i, text in enumerate(sentences()))
    (tmp_path / "corpus.csv").write_text("kid,text\n" + rows)
    (tmp_path / "queries.jsonl").write_text(
        '{"query_id": "1", "question": "Who lives in the marsh?", "answers": ["heron", "otter"]}\n'
    )
    return PretrainConfig(
        corpus=str(tmp_path / "corpus.csv"),
        output=str(tmp_path / "run"),
        queries=str(tmp_path / "queries.jsonl"),
        repeat=3,
        vocabulary=VocabularyConfig(pieces=400),
        llama=LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=64),
        optimizer=OptimizerConfig(lr=1e-2, min_lr=1e-3, warmup_steps=2),
        sequence_tokens=32,
        batch_size=8,
        epochs=2,
        max_steps=40,
        save_every=10,
        log_every=5,
    )


def test_vocabulary_gives_every_text_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_vocabulary(sentences(), tmp_path / "a.model", pieces=400, seed=1)
    train_vocabulary(sentences(), tmp_path / "b.model", pieces=400, seed=1)
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    tokenizer = load_tokenizer(tmp_path / "a.model")
    assert (tokenizer.vocab_size, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_ids) == (400, 0, 1, (2,))
    for text in (*sentences()[:5], "北京 naïve 😀 two spaces"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    train_vocabulary(sentences(), tmp_path / "c.model", pieces=100_000)
    (warning,) = caplog.messages
    most = load_tokenizer(tmp_path / "c.model").vocab_size
    assert warning == f"the texts hold no 100000 pieces; the vocabulary has {most}"
    train_vocabulary(sentences(), tmp_path / "d.model", pieces=most)
    assert (tmp_path / "d.model").read_bytes() == (tmp_path / "c.model").read_bytes()
    with pytest.raises(TokenizerError, match=r"ask for at least 2\d\d pieces"):
        train_vocabulary(sentences(), tmp_path / "c.model", pieces=100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.model", "b.model", "c.model", "d.model"]


def test_two_processes_that_write_to_one_place_leave_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder, copy = tmp_path / "v.model", tmp_path / "model", shutil.copyfile
    train_vocabulary(sentences(), path, pieces=400)
    tokenizer = load_tokenizer(path)
    llm = build_llama(LlamaConfig(hidden=32, layers=1, heads=2, intermediate=32, context=64), tokenizer)

    def meanwhile(work: Callable[[], None]) -> None:
        monkeypatch.undo()
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: -1)
            work()

    monkeypatch.setattr(
        os, "fsync", lambda _: meanwhile(lambda: train_vocabulary(sentences(), path, pieces=350))
    )
    train_vocabulary(sentences(), path, pieces=300)
    assert load_tokenizer(path).vocab_size == 300
    monkeypatch.setattr(
        shutil,
        "copyfile",
        lambda *names: (meanwhile(lambda: save_llama(llm, tokenizer, folder)), copy(*names)),
    )
    save_llama(llm, tokenizer, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "v.model"]
    assert {"model.safetensors", "tokenizer.model"} <= {p.name for p in folder.iterdir()}


def test_packed_rows_hold_every_document_once(config: PretrainConfig, tmp_path: Path) -> None:
    train_vocabulary(sentences(), tmp_path / "t.model", pieces=400)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    rows, first = pack(dataclasses.replace(config, tokenizer=str(tmp_path / "t.model")), tokenizer)
    stream = rows.tokens.tolist()
    pieces: list[list[int]] = [[]]
    for token in stream:
        if token == 2:
            pieces.append([])
        elif token != 1:
            pieces[-1].append(token)
    texts = [tokenizer.decode(p) for p in pieces[:-1]]
    assert set(sentences()) <= set(texts)
    asked = sorted(text.rsplit("### Response:", 1)[1].strip() for text in texts if "Response" in text)
    assert asked == ["heron", "heron", "otter"]
    assert stream.count(1) == len(sentences()) + 3
    assert len(rows) == len(stream) // 32
    assert rows[1].tolist() == stream[32:64]
    assert rows[0].dtype == np.int64
    (tmp_path / "queries.jsonl").write_text('{"query_id": "1", "question": "Who?", "answers": ["hen"]}\n')
    assert pack(config, tokenizer)[1] != first


def test_a_llama_comes_out_and_has_learned(config: PretrainConfig) -> None:
    import transformers

    assert pretrain(config).stopped_by is None
    rows = [row["loss"] for row in read_rows(config.output)]
    assert rows[-1] < 0.6 * rows[0]
    folder = Path(config.output) / "model"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.vocab_size == tokenizer.vocab_size == 400
    assert model.config.eos_token_id == 2
    tokens = torch.tensor([[1, *tokenizer.encode("The otter number 3 lives in the")]])
    top = model(tokens).logits[0, -1].topk(5).indices.tolist()
    assert set(top) & {tokenizer.encode(place)[0] for place in PLACES}


def test_resumed_pretraining_is_the_same_run(config: PretrainConfig, tmp_path: Path) -> None:
    pretrain(config)
    whole = read_rows(config.output)
    weights = (Path(config.output) / "model" / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="already holds a training run"):
        pretrain(config)
    pretrain(config, resume=Path(config.output) / "step-000030")
    assert [row["loss"] for row in read_rows(config.output)] == [row["loss"] for row in whole]
    assert (Path(config.output) / "model" / "model.safetensors").read_bytes() == weights
    with pytest.raises(CheckpointError, match=r"optimizer.lr was 0.01, is 0.5"):
        pretrain(
            dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=0.5)),
            resume="auto",
        )
    (tmp_path / "queries.jsonl").write_text('{"query_id": "1", "question": "Who?", "answers": ["hen"]}\n')
    with pytest.raises(CheckpointError, match="data was"):
        pretrain(config, resume="auto")


def test_a_vocabulary_is_learned_anew_when_what_it_was_learned_from_changes(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []

    def learn(*given: object, **settings: Any) -> None:
        learned.append(settings["pieces"])
        train_vocabulary(*given, **settings)

    def runs(config: PretrainConfig) -> int:
        learned.clear()
        pretrain(config)
        return len(learned)

    monkeypatch.setattr("gemkr.training.pretrain.train_vocabulary", learn)
    config = dataclasses.replace(config, max_steps=0)
    note, vocabulary = tmp_path / "run" / "tokenizer.source.json", tmp_path / "run" / "tokenizer.model"
    assert (runs(config), runs(config)) == (1, 0)
    first = vocabulary.read_bytes()
    asked = '{"query_id": "1", "question": "Wherefore whistles the weasel?", "answers": ["whisky"]}\n'
    (tmp_path / "queries.jsonl").write_text(asked)
    assert (runs(config), runs(config)) == (1, 0)
    assert vocabulary.read_bytes() != first
    (tmp_path / "t.txt").write_text("Quick quiz: {question}\n<ImageHere>\nQuite so\n")
    own = dataclasses.replace(
        config, prompt=dataclasses.replace(config.prompt, template=str(tmp_path / "t.txt"))
    )
    assert (runs(own), runs(own)) == (1, 0)
    alone = dataclasses.replace(config, queries=None)
    assert (runs(alone), runs(alone)) == (1, 0)
    for broken in ("", "[", "null"):
        note.write_text(broken)
        assert (runs(alone), runs(alone)) == (1, 0)


def test_a_vocabulary_without_its_note_is_not_taken_for_another(
    config: PretrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, max_steps=0)
    pretrain(config)
    vocabulary = tmp_path / "run" / "tokenizer.model"
    first = vocabulary.read_bytes()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr("gemkr.training.pretrain.write_atomically", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(dataclasses.replace(config, vocabulary=VocabularyConfig(pieces=390)))
    assert vocabulary.read_bytes() != first
    pretrain(config)
    assert vocabulary.read_bytes() == first


def test_impossible_settings_are_refused(config: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sequence_tokens 128 exceeds llama.context 64"):
        pretrain(dataclasses.replace(config, sequence_tokens=128))
    with pytest.raises(ConfigError, match=r"llama.hidden 33 must be"):
        pretrain(dataclasses.replace(config, llama=LlamaConfig(hidden=33, heads=2)))
    huge = dataclasses.replace(config, sequence_tokens=1 << 20, llama=LlamaConfig(context=1 << 20))
    with pytest.raises(DataError, match="less than one row"):
        pretrain(huge)
    (tmp_path / "bad.yaml").write_text("corpus: a\noutput: b\nvocabulary: {peices: 3}\n")
    with pytest.raises(ConfigError, match="unknown key 'peices'; the nearest known key is 'pieces'"):
        load_config(tmp_path / "bad.yaml", PretrainConfig)


def test_rows_are_cut_without_the_rest() -> None:
    rows = PackedRows(np.arange(10, dtype=np.uint16), 4)
    assert len(rows) == 2
    assert rows[1].tolist() == [4, 5, 6, 7]


def test_words_in_like_company_get_like_embeddings(config: PretrainConfig) -> None:
    config = dataclasses.replace(config, embeddings=EmbeddingsConfig(window=4, norm=3.0), max_steps=0)
    assert pretrain(config).step == 0
    folder = Path(config.output) / "model"
    tokenizer = load_tokenizer(folder)
    weight = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    assert weight.norm(dim=1).tolist() == pytest.approx([3.0] * 400, rel=1e-4)
    tokens = {word: tokenizer.encode(word) for word in (*ANIMALS, *PLACES)}
    single = {word: weight[ids[0]] for word, ids in tokens.items() if len(ids) == 1}
    animals, places = ([single[w] for w in words if w in single] for words in (ANIMALS, PLACES))
    assert min(len(animals), len(places)) > 1
    alike = torch.cosine_similarity(animals[0], animals[1], dim=0)
    assert alike > torch.cosine_similarity(animals[0], places[0], dim=0) + 0.2
    with pytest.raises(ConfigError, match="width 400"):
        pretrain(
            dataclasses.replace(
                config, output=f"{config.output}2", llama=LlamaConfig(hidden=400, heads=2, context=64)
            )
        )


def test_without_a_window_embeddings_are_random_directions_of_the_same_length(config: PretrainConfig) -> None:
    config = dataclasses.replace(config, embeddings=EmbeddingsConfig(window=0, norm=3.0), max_steps=0)
    pretrain(config)
    weight = load_file(Path(config.output) / "model" / "model.safetensors")["model.embed_tokens.weight"]
    directions = weight / 3.0
    assert directions.norm(dim=1).tolist() == pytest.approx([1.0] * 400, rel=1e-4)
    alike = (directions @ directions.T)[~torch.eye(400, dtype=torch.bool)]
    assert alike.mean().abs() < 0.01
    assert alike.std() == pytest.approx(weight.shape[1] ** -0.5, rel=0.05)


def test_training_starts_from_cooccurrences(config: PretrainConfig) -> None:
    config = dataclasses.replace(config, embeddings=EmbeddingsConfig(norm=1.0), max_steps=20)
    pretrain(config)
    whole = [row["loss"] for row in read_rows(config.output)]
    pretrain(config, resume=Path(config.output) / "step-000010")
    assert [row["loss"] for row in read_rows(config.output)] == whole


def test_meetings_are_mirrored_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tokens, offsets = rng.integers(0, 11, 400).astype(np.uint16), np.array([0, 150, 400])
    whole = _count(tokens, offsets, 11, 4)
    monkeypatch.setattr(cooccurrence, "ROWS", 3)
    assert torch.equal(_count(tokens, offsets, 11, 4), whole)
    assert torch.equal(whole, whole.T)


def test_meetings_are_counted_as_by_hand() -> None:
    tokens, offsets = np.array([0, 1, 2, 0, 1], np.uint16), np.array([0, 3, 5])
    counts = _count(tokens, offsets, 3, 2)
    assert counts.tolist() == [[0, 2, 0.5], [2, 0, 1], [0.5, 1, 0]]
    ppmi = _ppmi_(counts.clone())
    smooth = np.array([2.5, 3, 1.5]) ** 0.75
    assert ppmi[0, 2].item() == pytest.approx(max(0, np.log(0.5 / 2.5 / (smooth[2] / smooth.sum()))))
    assert ppmi[0, 1].item() == pytest.approx(np.log(2 / 2.5 / (smooth[1] / smooth.sum())))


def test_a_vocabulary_that_folds_case_reads_words_alike(tmp_path: Path) -> None:
    train_vocabulary(sentences(), tmp_path / "f.model", pieces=400, fold_case=True)
    tokenizer = load_tokenizer(tmp_path / "f.model")
    assert tokenizer.encode("OTTER Number") == tokenizer.encode("otter number")
    ids, starts = tokenizer.encode_with_offsets("The OTTER swims")
    assert "The OTTER swims"[starts[1] : starts[2]].strip() == "OTTER"
    assert tokenizer.decode(ids) == "the otter swims"


def test_further_corpora_stand_among_the_rows_as_often_as_asked(
    config: PretrainConfig, tmp_path: Path
) -> None:
    (tmp_path / "words.csv").write_text("kid,text\na,A weasel is a small hunter.\n")
    train_vocabulary(sentences(), tmp_path / "t.model", pieces=400)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    alone, without = pack(config, tokenizer)
    rows, data_hash = pack(dataclasses.replace(config, further=(str(tmp_path / "words.csv"),)), tokenizer)
    documents = tokenizer.decode([t for t in rows.tokens.tolist() if t != 1]).split("hunter.")
    assert len(documents) == 1 + config.repeat
    assert "hunter" not in tokenizer.decode(alone.tokens.tolist())
    assert data_hash != without
    with pytest.raises(DataError, match=r"absent\.csv"):
        pack(dataclasses.replace(config, further=(str(tmp_path / "absent.csv"),)), tokenizer)
