"""A text encoder before the LLM: where its states stand, what it reads, what learns, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoder import save_tiny_encoder
from transformers import (
    AutoModel,
    BertConfig,
    BertForMaskedLM,
    MPNetConfig,
    RobertaConfig,
    T5Config,
)

from gemkr.cli import main
from gemkr.data.clues import MinedClue, write_clues
from gemkr.data.records import read_records
from gemkr.errors import CheckpointError, ModelError
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.batch import hide_words
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.gemkr.outline import Outline
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.models.hf.config import LoraConfig, PromptConfig, TextEncoderConfig
from gemkr.models.hf.text_encoder import TextReader, load_text_encoder, outline_text_encoder
from gemkr.models.weights import load_weights, trained_parameters
from gemkr.testing import toy_corpus
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import read_checkpoint, save_checkpoint
from gemkr.training.checkpoints.origin import Origin, origins_differ
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.config import LlamaConfig, TrainConfig, TrainDataConfig
from gemkr.training.finetune import finetune
from gemkr.training.llama import build_llama, save_llama
from gemkr.training.loop.config import OptimizerConfig
from gemkr.training.loop.optimizer import build_optimizer
from gemkr.types import Query

TEXTS = [document.text for document in toy_corpus()]
FULL = PromptConfig(caption=True, detections=True)
QUERIES = [
    Query("short", "what is it", caption="a cat", detections=("dog",), answers=("tea",)),
    Query("long", "what does the cat on the mat drink today", caption="a cat on a mat", answers=("milk",)),
    Query("bare", "what is it"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LLM folder with random weights and a text encoder."""
    home = tmp_path_factory.mktemp("home")
    train_vocabulary(TEXTS * 20, home / "t.model", pieces=340)
    tokenizer = load_tokenizer(home / "t.model")
    size = LlamaConfig(hidden=32, layers=2, heads=2, intermediate=48, context=256)
    torch.manual_seed(0)
    save_llama(build_llama(size, tokenizer), tokenizer, home / "llm")
    save_tiny_encoder(
        home / "encoder",
        ["what", "is", "it", "a", "cat", "dog", "the", "mat", "on", "does", "drink", ".", ",", "?"],
    )
    return home


def config_of(home: Path, **changes) -> ModelConfig:
    encoder = TextEncoderConfig(str(home / "encoder"), max_tokens=24)
    config = ModelConfig(
        llm=str(home / "llm"), text_encoder=encoder, prompt=FULL, lora=LoraConfig(r=2, dropout=0.0)
    )
    return replace(config, **changes)


@pytest.fixture
def model(home: Path) -> GeMKR:
    """A model whose every trained part has a value of its own, so that every path counts."""
    model = load_gemkr(config_of(home))
    torch.manual_seed(2)
    for parameter in model.trainable_parameters().values():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def test_states_stand_between_the_beginning_and_the_prompt(model: GeMKR, home: Path) -> None:
    plain = load_gemkr(config_of(home, text_encoder=None)).input_builder()
    for query in QUERIES:
        with_states, without = model.input_builder()(query, clue=[7, 8]), plain(query, clue=[7, 8])
        n = len(with_states.text)
        assert with_states.sample.read.tolist() == list(range(1, 1 + n))
        left = np.delete(with_states.sample.tokens, with_states.sample.read)
        assert left.tolist() == without.sample.tokens.tolist()
        assert with_states.sample.prompt_length == without.sample.prompt_length + n
        assert without.text is None
        assert not len(without.sample.read)


def test_the_encoder_reads_what_the_prompt_shows(home: Path) -> None:
    def read(prompt: PromptConfig, query: Query = QUERIES[0]) -> str:
        reader = load_gemkr(config_of(home, prompt=prompt)).input_builder().reader
        return reader._tokenizer.decode(reader(query))

    assert read(FULL) == "[CLS] what is it [SEP] a cat. dog [SEP]"
    assert read(PromptConfig(caption=True)) == "[CLS] what is it [SEP] a cat [SEP]"
    assert read(PromptConfig()) == "[CLS] what is it [SEP]"
    assert read(FULL, QUERIES[2]) == "[CLS] what is it [SEP]"
    endless = Query("e", "what " * 30, caption="a cat " * 30)
    assert len(read(FULL, endless).split()) == 24


def test_neighbours_and_padding_do_not_matter(model: GeMKR) -> None:
    build = model.input_builder()
    examples = [build(query, clue=list(range(5, 6 + i))) for i, query in enumerate(QUERIES)]
    together, counts = model.token_losses(model.collate(examples))
    for example, loss, count in zip(examples, together, counts, strict=True):
        alone, n = model.token_losses(model.collate([example]))
        assert n.item() == count.item()
        torch.testing.assert_close(alone[0], loss, rtol=1e-4, atol=1e-5)


def test_what_the_encoder_reads_changes_the_answer(model: GeMKR) -> None:
    example = model.input_builder()(QUERIES[0])
    other = example.text.copy()
    other[1] += 1
    seen, _ = model.prefill([example])
    changed, _ = model.prefill([replace(example, text=other)])
    assert (seen - changed).abs().max() > 1e-5


def test_steps_equal_the_whole_forward(model: GeMKR) -> None:
    build, clue = model.input_builder(), [5, 9, 11]
    whole, _ = model.token_losses(model.collate([build(QUERIES[1], clue=clue)]))
    logits, state = model.prefill([build(QUERIES[1])])
    stepwise = -logits.log_softmax(-1)[0, clue[0]]
    for token, following in zip(clue, [*clue[1:], model.eos_token_ids[0]], strict=True):
        logits, state = model.step(torch.tensor([token]), state)
        stepwise -= logits.log_softmax(-1)[0, following]
    torch.testing.assert_close(stepwise, whole[0], rtol=1e-4, atol=1e-4)


def test_clues_that_share_a_prompt_lose_as_much_as_apart(model: GeMKR) -> None:
    build, clues = model.input_builder(), ((5, 6), (9,))
    apart = model.collate([build(q, clue=clue) for q in QUERIES for clue in clues])
    targets = tuple(map(ClueTarget, clues))
    shared = model.collate([replace(build(q), clues=targets) for q in QUERIES])
    torch.testing.assert_close(model(shared), model(apart), rtol=1e-5, atol=1e-5)


def test_what_learns_and_at_which_rate(model: GeMKR, home: Path) -> None:
    trained = model.trainable_parameters()
    read = {name for name in trained if name.startswith("text_encoder.")}
    assert any("attention" in name for name in read)
    assert not any("word_embeddings" in name or "pooler" in name for name in read)
    assert {name for name in trained if name.startswith("text_projector.")} == {
        f"text_projector.{part}" for part in ("norm.weight", "norm.bias", "linear.weight", "linear.bias")
    }
    model.train()
    build = model.input_builder()
    model(model.collate([build(QUERIES[0], clue=[5])])).backward()
    assert all(trained[name].grad is not None for name in read)
    optimizer = build_optimizer(trained, OptimizerConfig(lr=1e-3, text_encoder_lr=1e-5))
    rates = {id(p): group["peak_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(trained[name])] for name in read} == {1e-5}
    assert {rates[id(p)] for name, p in trained.items() if name not in read} == {1e-3}
    assert Outline(config_of(home)).shapes() == {name: p.shape for name, p in trained.items()}


def test_hidden_words_spare_the_states(home: Path) -> None:
    model = load_gemkr(config_of(home, prompt_dropout=0.5)).train()
    batch = model.collate([model.input_builder()(query, clue=[5]) for query in QUERIES])
    torch.manual_seed(0)
    hidden = batch.mask.bool() & ~hide_words(batch, 0.5).mask.bool()
    assert hidden.any()
    assert not hidden[batch.text_slots[:, 0], batch.text_slots[:, 1]].any()


def test_trained_then_asked_alone_and_beside_a_model_without(home: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(home / "t.model")
    index = FMIndex.build(
        [tokenizer.encode(text) for text in TEXTS],
        [f"d{i}" for i in range(len(TEXTS))],
        vocab_size=tokenizer.vocab_size,
        tokenizer=tokenizer,
    )
    index.save(tmp_path / "corpus.fmi")
    (tmp_path / "corpus.csv").write_text("kid,text\n" + "".join(f'd{i},"{t}"\n' for i, t in enumerate(TEXTS)))
    rows = [
        {"query_id": q.query_id, "question": q.question, "caption": q.caption, "answers": ["tea"]}
        for q in QUERIES
    ]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tea = tuple(tokenizer.encode("tea"))
    write_clues(
        tmp_path / "clues.jsonl",
        (MinedClue(q.query_id, "d0", 0, len(tea), tea, "tea", "short", 1, "tea") for q in QUERIES),
    )
    data = TrainDataConfig(str(tmp_path / "queries.jsonl"), str(tmp_path / "clues.jsonl"), clues_per_prompt=2)
    settings = config_of(home)
    done = finetune(
        TrainConfig(
            model=settings, data=data, output=str(tmp_path / "train"), batch_size=2, epochs=1, workers=0
        )
    )
    start, final = load_gemkr(settings).trained_state(), load_gemkr(settings)
    saved = read_checkpoint(str(done.checkpoint))
    assert saved.origin.bases["text_encoder"] == final.text_encoder.frozen_fingerprint()
    weights = saved.weights
    load_weights(final.trainable_parameters(), weights, "the checkpoint")
    assert any(
        not torch.equal(start[name], weights[name]) for name in weights if name.startswith("text_encoder.")
    )

    plain = load_gemkr(config_of(home, text_encoder=None))
    save_checkpoint(
        tmp_path / "plain", Origin("gemkr", tokenizer.fingerprint(), "data", {}), plain.trained_state()
    )
    llm = f"llm: {home}/llm, lora: {{r: 2, dropout: 0.0}}"
    full = "prompt: {caption: true, detections: true}"
    reading = f"text_encoder: {{folder: {home}/encoder, max_tokens: 24}}"
    (tmp_path / "eval.yaml").write_text(
        f"queries: {tmp_path}/queries.jsonl\ncorpus: {tmp_path}/corpus.csv\noutput: {tmp_path}/eval\n"
        f"metrics: [P@5, S@5]\nretrievers:\n  gemkr:\n    kind: generative\n    index: {tmp_path}/corpus.fmi\n"
        f"    model: {{{llm}, {full}, {reading}, checkpoint: {done.checkpoint}}}\n"
        f"    ensemble: [{{{llm}, checkpoint: {tmp_path}/plain}}]\n"
        "    decoding: {beam_size: 4, groups: 2, max_tokens: 6}\n"
    )
    asked = ["eval", str(tmp_path / "eval.yaml")]
    assert main([*asked, "retrievers.gemkr.ensemble=[]", f"output={tmp_path}/alone"]) == 0
    assert main(asked) == 0
    alone, beside = (
        list(read_records(tmp_path / name / "gemkr" / "run.jsonl")) for name in ("alone", "eval")
    )
    assert [r.query_id for r in alone] == [r.query_id for r in beside] == [q.query_id for q in QUERIES]
    assert all(index.search(clue.tokens) == clue.span for ranking in beside for clue in ranking.clues)
    assert [[c.log_prob for c in r.clues] for r in alone] != [[c.log_prob for c in r.clues] for r in beside]


def test_a_checkpoint_knows_what_it_was_trained_behind(home: Path, tmp_path: Path) -> None:
    folder = TextEncoderConfig(str(home / "encoder"), max_tokens=24, train=False)
    settings = config_of(home, text_encoder=folder)
    behind = load_gemkr(settings)
    told = Origin("gemkr", behind.tokenizer.fingerprint(), "data", {}, behind.bases())
    save_checkpoint(tmp_path / "final", told, behind.trained_state())
    checkpoint = str(tmp_path / "final")
    load_model(replace(settings, checkpoint=checkpoint))
    other = save_tiny_encoder(tmp_path / "other", ["what"])
    elsewhere = replace(settings, text_encoder=replace(folder, folder=str(other)), checkpoint=checkpoint)
    with pytest.raises(
        CheckpointError,
        match=r"trained on the text encoder of hash [0-9a-f]{12}, this .* set model.text_encoder.folder and .weights to",
    ):
        load_model(elsewhere)
    (tmp_path / "queries.jsonl").write_text('{"query_id": "1", "question": "what"}\n')
    write_clues(tmp_path / "clues.jsonl", [MinedClue("1", "d", 0, 1, (5,), "what", "short", 1, "what")])
    data = TrainDataConfig(str(tmp_path / "queries.jsonl"), str(tmp_path / "clues.jsonl"))
    with pytest.raises(CheckpointError, match="trained on the text encoder"):
        finetune(TrainConfig(model=elsewhere, data=data, output=str(tmp_path / "warm")))
    silent = replace(told, bases={})
    save_checkpoint(tmp_path / "final", silent, behind.trained_state())
    load_model(elsewhere)
    now = replace(told, bases=told.bases | {"text_encoder": "f" * 64})
    assert origins_differ(told, now, frozenset()).startswith("text_encoder was")
    assert origins_differ(silent, now, frozenset()) is None


def test_misfits_are_named(home: Path, tmp_path: Path, model: GeMKR, capsys: pytest.CaptureFixture) -> None:
    def refused(folder: Path, message: str, max_tokens: int = 24) -> None:
        config = config_of(home, text_encoder=TextEncoderConfig(str(folder), max_tokens=max_tokens))
        with pytest.raises(ModelError, match=message):
            load_gemkr(config)

    refused(tmp_path, "holds no config.json")
    refused(home / "encoder", "max_tokens is 41, the encoder .* has 40 positions", max_tokens=41)
    T5Config(d_model=8, num_layers=1, num_heads=1, d_kv=8, d_ff=8).save_pretrained(tmp_path / "t5")
    refused(tmp_path / "t5", r"holds an encoder and a decoder \(t5\)")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    refused(tmp_path / "broken", "cannot be described")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text((home / "encoder" / "config.json").read_text())
    refused(tmp_path / "empty", "cannot be loaded")
    (tmp_path / "empty" / "model.safetensors").write_bytes(
        (home / "encoder" / "model.safetensors").read_bytes()
    )
    mute = load_gemkr(config_of(home, text_encoder=TextEncoderConfig(str(tmp_path / "empty"), max_tokens=24)))
    with pytest.raises(ModelError, match="has no tokenizer that knows a word"):
        mute.input_builder()(QUERIES[0])
    without = load_gemkr(config_of(home, text_encoder=None)).trainable_parameters()
    with pytest.raises(CheckpointError, match=r"does not fit this model: it has unexpected .*\(text_encoder"):
        load_weights(without, model.trained_state(), "the checkpoint")


def test_starts_from_what_a_classifier_fine_tuned(home: Path, tmp_path: Path) -> None:
    folder = TextEncoderConfig(str(home / "encoder"), max_tokens=24)
    weights = str(tmp_path / "w.safetensors")
    tuned = load_text_encoder(folder).model.state_dict()
    tuned = {name: tensor + 0.25 if tensor.is_floating_point() else tensor for name, tensor in tuned.items()}
    learned = load_text_encoder(folder)
    learned.model.load_state_dict(tuned)
    kept = {f"encoder.{name}": p for name, p in trained_parameters(learned).items()}
    save_file({name: tensor.detach().contiguous() for name, tensor in kept.items()}, weights)
    tuned = load_text_encoder(folder).model.state_dict() | {
        name.removeprefix("encoder.model."): tensor.detach() for name, tensor in kept.items()
    }
    started = replace(folder, weights=weights, train=False)
    model = load_gemkr(config_of(home, text_encoder=started)).train()
    found, fresh = model.text_encoder.model.state_dict(), load_text_encoder(folder).model.state_dict()
    assert all(torch.equal(found[name], tuned[name]) for name in tuned)
    assert any(not torch.equal(found[name], fresh[name]) for name in fresh)
    assert not any(name.startswith("text_encoder.") for name in model.trainable_parameters())
    assert not any(module.training for module in model.text_encoder.modules())
    shapes = {name: p.shape for name, p in model.trainable_parameters().items()}
    assert Outline(config_of(home, text_encoder=started)).shapes() == shapes
    other = save_tiny_encoder(tmp_path / "other", ["what"], layers=1)
    with pytest.raises(
        CheckpointError, match=r"does not fit the encoder: it has unexpected \d+ \(encoder\.layer\.1"
    ):
        load_text_encoder(replace(started, folder=str(other)))
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        load_text_encoder(started)
    with pytest.raises(
        ModelError, match="absent is not there; name the weight file that it was fine-tuned into"
    ):
        load_text_encoder(replace(started, weights=str(tmp_path / "absent")))


def test_weights_that_lack_tensors_are_refused_but_for_the_pooler(home: Path, tmp_path: Path) -> None:
    config = TextEncoderConfig(str(save_tiny_encoder(tmp_path / "e", ["what"])), max_tokens=24)
    file = tmp_path / "e" / "model.safetensors"
    whole = load_file(file)
    bare = {name: tensor for name, tensor in whole.items() if not name.startswith("pooler.")}
    assert len(bare) == len(whole) - 2
    save_file(bare, file, metadata={"format": "pt"})
    own = load_text_encoder(config).model.state_dict()
    assert own.keys() == bare.keys()
    assert all(torch.equal(tensor, bare[name]) for name, tensor in own.items())
    save_file({n: t for n, t in bare.items() if ".layer.1." not in n}, file, metadata={"format": "pt"})
    said = r"the text encoder folder .*/e are not those .*: encoder\.layer\.1\.\S+ is missing, and 15 more are missing"
    with pytest.raises(ModelError, match=said):
        load_text_encoder(config)
    words = "embeddings.word_embeddings.weight"
    save_file(bare | {words: torch.zeros(3, 24)}, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{words} has shape \[3, 24\] instead of \[6, 24\]; copy"):
        load_text_encoder(config)
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ModelError, match=r"the text encoder folder .*/e cannot be loaded: "):
        load_text_encoder(config)


def test_weights_saved_with_a_head_load(tmp_path: Path) -> None:
    size = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertForMaskedLM(size)
    model.save_pretrained(tmp_path / "e")
    own = load_text_encoder(TextEncoderConfig(str(tmp_path / "e"))).model.state_dict()
    assert all(torch.equal(tensor, model.bert.state_dict()[name]) for name, tensor in own.items())


@pytest.mark.parametrize("settings", [RobertaConfig, MPNetConfig])
def test_positions_that_stand_for_padding_are_not_for_tokens(settings: type, tmp_path: Path) -> None:
    size = settings(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=42, pad_token_id=1,
    )  # fmt: skip
    AutoModel.from_config(size).save_pretrained(tmp_path / "e")
    most = TextEncoderConfig(str(tmp_path / "e"), max_tokens=40)
    tokens = torch.full((1, 40), 5)
    assert load_text_encoder(most)(tokens, torch.ones_like(tokens)).shape == (1, 40, 8)
    for make in (load_text_encoder, outline_text_encoder):
        with pytest.raises(ModelError, match=r"max_tokens is 41, the encoder .*/e has 40 positions"):
            make(replace(most, max_tokens=41))


@pytest.mark.parametrize(("prompt", "special"), [(PromptConfig(), 2), (FULL, 3)])
def test_a_length_that_has_no_room_for_a_word_is_refused(
    prompt: PromptConfig, special: int, home: Path
) -> None:
    config = TextEncoderConfig(str(home / "encoder"), max_tokens=special + 1)
    for query in QUERIES:
        assert len(TextReader(config, prompt)(query)) == special + 1
    for few in range(1, special + 1):
        said = f"max_tokens is {few}, the tokenizer of .* puts {special} special tokens around the words; raise it to"
        with pytest.raises(ModelError, match=f"{said} {special + 1} or more"):
            TextReader(replace(config, max_tokens=few), prompt)(QUERIES[0])
