"""Training of rerankers that ask a language model: sixteen queries with pictures are learned, and a stopped run goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tiny_asking import ANIMALS, MODEL, PLACES, write_config, write_material

from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.data.records import read_records
from gemkr.errors import ConfigError, DataError, ModelError
from gemkr.models.hf.config import LoraConfig
from gemkr.models.weights import weights_digest
from gemkr.rerankers import training
from gemkr.rerankers.config import RerankerTrainConfig
from gemkr.rerankers.material import read_material
from gemkr.rerankers.training import train_reranker
from gemkr.text.tokenizer import load_tokenizer
from gemkr.text.vocabulary import train_vocabulary
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.checkpoints.trained import load_model
from gemkr.training.config import LlamaConfig
from gemkr.training.llama import build_llama, save_llama
from gemkr.training.loop.feed import TrainingData
from gemkr.training.loop.log import read_rows
from gemkr.training.network import start_network
from gemkr.types import Query

LORA = {"r": 4, "alpha": 8, "dropout": 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve queries of the animals, and a run with each gold document among four others, here and there."""
    write_material(tmp_path)
    rows = [
        {"query_id": f"q{i}", "question": f"where does the {a} live", "positives": [f"d{i}"]}
        for i, a in enumerate(ANIMALS)
    ]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = []
    for q in range(12):
        order = [(q + j) % 12 for j in (1, 2, 3, 4)]
        order.insert(q % 5, q)
        lines += [f"q{q} Q0 d{doc} {rank} {10 - rank}.0 first\n" for rank, doc in enumerate(order, 1)]
    (tmp_path / "first.trec").write_text("".join(lines))
    return tmp_path


def write_training(folder: Path, rerank: dict | None = None, **changes: object) -> Path:
    values = {
        "model": {**MODEL, "train_llm": True},
        "rerank": {"queries": "queries.jsonl", "corpus": "corpus.jsonl", "run": "first.trec"}
        | (rerank or {}),
        "output": "trained",
        "optimizer": {"lr": 5e-3, "min_lr": 1e-3, "warmup_steps": 5, "weight_decay": 0.0},
        "batch_size": 12,
        "epochs": 20,
        "workers": 0,
        "save_every": 1000,
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sixteen names, each to be told from its neighbour, and a LLaMA of a width that learns this soon."""
    names = [a + b for a in ("fo", "he", "ot", "ba") for b in ("x", "n", "ter", "dge")]
    documents = [f"{name} {PLACES[i % 4]}" for i, name in enumerate(names)]
    letters = [f"Yes No ( 1 2 3 (1) {name}" for name in names]
    train_vocabulary([*documents, *letters] * 20, tmp_path / "t.model", pieces=320)
    tokenizer = load_tokenizer(tmp_path / "t.model")
    torch.manual_seed(0)
    model = build_llama(LlamaConfig(hidden=48, layers=2, heads=2, intermediate=96, context=256), tokenizer)
    with torch.no_grad():
        for weights in (p for p in model.parameters() if p.dim() == 2):
            weights.mul_(4)
    save_llama(model, tokenizer, tmp_path / "llm")
    for kind, end in (("yes_no", ":"), ("listwise", "(")):
        (tmp_path / f"{kind}.txt").write_text(f"{{question}}\n<ImageHere>\n{{passage}}\n{end}\n")
    for name, rows in (
        ("corpus", [{"kid": f"d{i}", "text": text} for i, text in enumerate(documents)]),
        (
            "queries",
            [{"query_id": f"q{i}", "question": a, "positives": [f"d{i}"]} for i, a in enumerate(names)],
        ),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = [(q, (q + other) % 16, rank) for q in range(16) for rank, other in enumerate((q % 2, 1 - q % 2))]
    (tmp_path / "first.trec").write_text(
        "".join(f"q{q} Q0 d{doc} {rank} {9 - rank}.0 first\n" for q, doc, rank in places)
    )
    return tmp_path


def first_hits(folder: Path, reranker: dict, output: str, capsys: pytest.CaptureFixture) -> float:
    """The share of queries whose gold document `gemkr rerank` puts first."""
    config = str(write_config(folder, reranker))
    assert main(["rerank", config, str(folder / "first.trec"), "-o", str(folder / output)]) == 0
    capsys.readouterr()
    rankings = list(read_records(folder / output / "again" / "run.jsonl"))
    return sum(r.hits[0].doc_id == r.query_id.replace("q", "d") for r in rankings) / len(rankings)


def turn(folder: Path) -> None:
    """Ask with the texts of the documents for what were the questions."""
    corpus, queries = (
        [json.loads(line) for line in (folder / name).read_text().splitlines()]
        for name in ("corpus.jsonl", "queries.jsonl")
    )
    for document, query in zip(corpus, queries, strict=True):
        document["text"], query["question"] = query["question"], document["text"]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("kind", "samples", "turned"),
    [
        ({"kind": "yes_no"}, ["yes", "no"], False),
        ({"kind": "yes_no"}, ["yes", "no"], True),
        ({"kind": "listwise", "window": 2}, ["listwise"], False),
    ],
)
def test_a_reranker_learns_sixteen_pairs(
    pairs: Path, kind: dict, samples: list[str], turned: bool, capsys: pytest.CaptureFixture
) -> None:
    """In either direction: names ask for texts, or, at half the learning rate, texts for names."""
    if turned:
        turn(pairs)
    prompt = {"template": f"{kind['kind']}.txt"}
    before = first_hits(pairs, {**kind, "model": {**MODEL, "prompt": prompt}}, "before", capsys)
    rerank = {
        "samples": samples, "list_size": 2, "draws": 5, "pointwise_template": "yes_no.txt",
        "listwise_template": "listwise.txt",
    }  # fmt: skip
    lr = 5e-3 if turned else 1e-2
    changes = {"optimizer": {"lr": lr, "min_lr": lr / 5, "warmup_steps": 5, "weight_decay": 0.0}}
    words = str(write_training(pairs, rerank, batch_size=40, epochs=60 if turned else 50, **changes))
    assert main(["train", words]) == 0
    capsys.readouterr()
    trained = {**MODEL, "train_llm": True, "checkpoint": "trained/final", "prompt": prompt}
    assert before < 0.8
    assert first_hits(pairs, {**kind, "model": trained}, "after", capsys) == 1.0


def test_the_three_kinds_of_samples(folder: Path) -> None:
    """A positive, a negative, and a list of both; other draws take other negatives, and the same seed the same ones."""
    config = load_config(write_training(folder, {"draws": 30, "list_size": 4}), RerankerTrainConfig).rerank
    samples = read_material(config, 3, {}).samples
    assert samples == read_material(config, 3, {}).samples
    assert samples != read_material(config, 4, {}).samples
    own = [sample for sample in samples if sample.query_id == "q2"]
    assert len(own) == 90
    others = {3, 4, 5, 6}
    assert {sample.docs for sample in own if sample.kind == "yes"} == {(2,)}
    assert {sample.docs[0] for sample in own if sample.kind == "no"} == others
    lists = [sample for sample in own if sample.kind == "listwise"]
    assert {len(sample.docs) for sample in lists} == {2, 3, 4}
    assert {sample.place for sample in lists} == {0, 1, 2, 3}
    for sample in lists:
        assert sample.docs[sample.place] == 2
        assert len(set(sample.docs)) == len(sample.docs)
        assert set(sample.docs) <= others | {2}
    window = replace(config, skip=1, depth=3, samples=("no",))
    assert {s.docs[0] for s in read_material(window, 0, {}).samples if s.query_id == "q0"} == {1, 2}


def test_what_is_learned_is_the_answer_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the end behind it, which no reranker reads."""
    seen = []

    def keep(config: object, model: object, data: TrainingData, *_: object, **__: object) -> None:
        seen.append(data)

    monkeypatch.setattr(training, "train_network", keep)
    train_reranker(load_config(write_training(folder, {"list_size": 3}), RerankerTrainConfig))
    tokenizer = load_tokenizer(folder / "t.model")
    words = {"yes": {"Yes"}, "no": {"No"}, "listwise": {"1", "2", "3"}}
    found = {kind: set() for kind in words}
    for number, sample in enumerate(seen[0].dataset.samples):
        row = seen[0].dataset[number].sample
        assert len(row.tokens) == row.prompt_length + 1
        found[sample.kind].add(tokenizer.decode(row.tokens[-1:].tolist()))
    assert found == words
    train_reranker(load_config(write_training(folder, {"tidy": True}), RerankerTrainConfig))
    shown = [tokenizer.decode(data.dataset[0].sample.tokens.tolist()) for data in seen]
    assert [text.count("live.") + text.count("river.") for text in shown] == [0, 2]


def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path) -> None:
    changes = {
        "model": {**MODEL, "lora": LORA},
        "epochs": 2,
        "save_every": 2,
        "keep_checkpoints": 9,
        "log_every": 1,
    }
    outcome = train_reranker(load_config(write_training(folder, **changes), RerankerTrainConfig))
    assert outcome.step == 6
    whole, part = folder / "trained", folder / "part"
    shutil.copytree(whole, part)
    for name in ("final", "step-000004", "step-000006"):
        shutil.rmtree(part / name)
    config = load_config(write_training(folder, **changes, output="part"), RerankerTrainConfig)
    resumed = train_reranker(config, resume="auto")
    assert [row["loss"] for row in read_rows(part)] == [row["loss"] for row in read_rows(whole)]
    first, second = (read_checkpoint(done.checkpoint).weights for done in (outcome, resumed))
    assert weights_digest(first) == weights_digest(second)


def test_an_llm_trained_whole_starts_from_merged_adapters(folder: Path) -> None:
    """It computes what the model with the adapters did, and trains on as any other."""
    changes = {"model": {**MODEL, "lora": LORA}, "epochs": 2}
    train_reranker(load_config(write_training(folder, **changes), RerankerTrainConfig))
    changes = {"model": {**MODEL, "train_llm": True, "checkpoint": "trained/final"}, "epochs": 1}
    config = load_config(write_training(folder, **changes, output="whole"), RerankerTrainConfig)
    adapted = load_model(replace(config.model, train_llm=False, lora=LoraConfig(**LORA)))
    prompts = [adapted.input_builder()(Query("q", "where does the fox live"))]
    bare = load_model(replace(config.model, checkpoint=None))
    expected, found, before = (
        model.prefill(prompts)[0] for model in (adapted, start_network(config, None), bare)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (before - expected).abs().max() > 1e-2
    assert train_reranker(config).step == 3


@pytest.mark.parametrize(
    ("rerank", "error", "sentence"),
    [
        ({"samples": ["maybe"]}, ConfigError, "rerank.samples has the unknown kind 'maybe'; there are yes, no, listwise"),
        ({"samples": []}, ConfigError, "rerank.samples names no kind of sample"),
        ({"yes": "Absolutely"}, ModelError, "reads the logit of 'Absolutely', which must be one token"),
        ({"list_size": 12}, ModelError, "reads the logit of '10', which must be one token .* lower rerank.list_size"),
        ({"listwise_template": "short"}, ModelError, "the prompt template short has no {passage}, so that the reranker listwise"),
        ({"depth": 1, "skip": 1}, DataError, "has no hard negative for any of the 12 queries with positives"),
        ({"run": "bare.trec"}, DataError, "the document 'bare', a hit of the query 'q0', has no text"),
        ({"run": "foreign.trec"}, DataError, "foreign.trec names the document 'x', which the corpus .* does not hold"),
        ({"queries": "none.jsonl"}, DataError, "no query has positives, so that there is nothing to learn"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_one_sentence(
    folder: Path, rerank: dict, error: type, sentence: str
) -> None:
    (folder / "bare.trec").write_text("q0 Q0 bare 1 2.0 x\n")
    (folder / "foreign.trec").write_text("q0 Q0 x 1 2.0 x\n")
    (folder / "none.jsonl").write_text('{"query_id": "q0", "question": "where"}\n')
    with pytest.raises(error, match=sentence):
        train_reranker(load_config(write_training(folder, rerank), RerankerTrainConfig))
