"""Rerankers that ask a vision-language model: they see the query's picture, learn with adapters, and LamRA-Rank's are imported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_pictures import WORDS, save_pictures
from tiny_vlm import save_tiny_vlm
from transformers import AutoModelForImageTextToText

from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig
from gemkr.models.hf.adapters import VISION
from gemkr.models.weights import weights_digest

ANSWERS = ["Yes", "No", "1", "2", "3", "Question", "Passage", "Passages", "("]
LORA = {"r": 2, "alpha": 8, "dropout": 0.0, "targets": r".*\.(q|k|v|o|gate|up|down)_proj"}
KINDS = [{"kind": "yes_no"}, {"kind": "listwise", "window": 3}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries with and without a picture, and a run over three documents."""
    home = tmp_path_factory.mktemp("vlm")
    save_tiny_vlm(home / "vlm", "qwen2_vl", [*ANSWERS, *WORDS])
    save_pictures(home / "images", ["one", "two"])
    queries = [
        {"query_id": "q0", "question": "which cat", "image": "one", "positives": ["d0"]},
        {"query_id": "q1", "question": "which dog", "positives": ["d1"]},
    ]
    documents = [
        {"id": f"d{i}", "text": f"the {word} house"} for i, word in enumerate(("cat", "dog", "bird"))
    ]
    for name, rows in (("queries", queries), ("corpus", documents)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "first.trec").write_text(
        "".join(f"q{q} Q0 d{d} {d} {9 - d} x\n" for q in (0, 1) for d in range(3))
    )
    return home


def scorer(home: Path, reranker: dict, **model: object):
    values = {
        "corpus": "corpus.jsonl", "queries": "queries.jsonl", "images": "images", "output": "out",
        "retrievers": {
            "first": {"kind": "saved", "run": "first.trec"},
            "again": {"kind": "reranked", "of": "first", "reranker": {**reranker, "model": {"kind": "vlm", "folder": "vlm", **model}}},
        },
    }  # fmt: skip
    (home / "mine.yaml").write_text(yaml.safe_dump(values))
    sources = load_config(home / "mine.yaml", EvalConfig).sources()
    return sources.part(sources.sections["again"].config.reranker).scorer, sources.queries


def plain(model: torch.nn.Module, scorer, examples: list) -> np.ndarray:
    """Probabilities of the answers behind each prompt, one at a time, by transformers alone."""
    found = []
    for example in examples:
        inputs = {"input_ids": torch.tensor(example.sample.tokens)[None]}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if example.pictures:
            inputs |= {name: torch.cat([p[name] for p in example.pictures]) for name in example.pictures[0]}
            image = scorer.asked.model.parts.config.image_token_id
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == image).int()
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1, scorer.asked.answers]
        found.append(torch.softmax(logits, 0).numpy())
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_softmax_of_the_answers(home: Path, kind: dict) -> None:
    made, queries = scorer(home, kind, lora=None)
    model = AutoModelForImageTextToText.from_pretrained(home / "vlm").eval()
    for query in queries:
        scores = made.score(query, np.arange(3))
        texts = ["the cat house", "the dog house", "the bird house"]
        if kind["kind"] == "yes_no":
            prompts = [made.asked.prompts(query, passage=text) for text in texts]
            expected = plain(model, made, prompts)[:, 0]
        else:
            prompts = [made.prompt(query, texts)]
            expected = plain(model, made, prompts)[0]
        assert bool(prompts[0].pictures) == (query.image is not None)
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_adapters_are_trained_and_the_tower_is_not(home: Path, capsys: pytest.CaptureFixture) -> None:
    values = {
        "model": {"kind": "vlm", "folder": "vlm", "lora": LORA}, "output": "trained", "epochs": 3, "workers": 0, "batch_size": 6,
        "rerank": {"queries": "queries.jsonl", "corpus": "corpus.jsonl", "run": "first.trec", "images": "images", "list_size": 3},
        "optimizer": {"lr": 2e-2, "warmup_steps": 0}, "log_every": 1,
    }  # fmt: skip
    (home / "train.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", str(home / "train.yaml")]) == 0
    before, _ = scorer(home, KINDS[0], lora=LORA)
    after, queries = scorer(home, KINDS[0], lora=LORA, checkpoint="trained/final")
    digests = [
        weights_digest({n: p for n, p in made.asked.model.state_dict().items() if VISION.search(n)})
        for made in (before, after)
    ]
    assert digests[0] == digests[1]
    scores = [[made.score(query, np.arange(3)) for query in queries] for made in (before, after)]
    assert np.abs(np.array(scores[0]) - np.array(scores[1])).max() > 0.01


@pytest.mark.parametrize("older", [False, True])
def test_imported_adapters_give_their_scores(
    home: Path, tmp_path: Path, older: bool, capsys: pytest.CaptureFixture
) -> None:
    torch.manual_seed(4)
    whole = AutoModelForImageTextToText.from_pretrained(home / "vlm").eval()
    settings = peft.LoraConfig(
        r=2,
        lora_alpha=8,
        lora_dropout=0.05,
        target_modules=r".*language_model.*\.(q|k|v|o|gate|up|down)_proj",
    )
    theirs = peft.get_peft_model(whole, settings)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data += 0.2 * torch.rand_like(parameter)
    theirs.save_pretrained(tmp_path / "peft")
    if older:
        file = tmp_path / "peft" / "adapter_model.safetensors"
        save_file({n.replace("model.language_model.", "model."): t for n, t in load_file(file).items()}, file)
    config = tmp_path / "rank.yaml"
    config.write_text(yaml.safe_dump({"model": {"kind": "vlm", "folder": str(home / "vlm"), "lora": LORA}}))
    words = ["import-checkpoint", str(tmp_path / "peft"), "--config", str(config)]
    assert main([*words, "-o", str(tmp_path / "imported")]) == 0
    made, queries = scorer(home, KINDS[0], lora=LORA, checkpoint=str(tmp_path / "imported"))
    prompts = [made.asked.prompts(queries[0], passage=f"the {word} house") for word in ("cat", "dog", "bird")]
    expected = plain(theirs.eval(), made, prompts)[:, 0]
    np.testing.assert_allclose(made.score(queries[0], np.arange(3)), expected, atol=1e-5)
    capsys.readouterr()
    assert main([*words, "-o", str(tmp_path / "other"), "model.lora.r=4"]) == 1
    assert "have r: 2, the model lora.r: 4; set model.lora.r to theirs" in capsys.readouterr().err
    text = yaml.safe_dump({"model": {"llm": str(home / "vlm")}})
    config.write_text(text)
    assert main([*words, "-o", str(tmp_path / "other")]) == 1
    assert "are of a vision-language model; set model.kind: vlm" in capsys.readouterr().err


def test_sixteen_queries_of_every_form_are_learned(tmp_path: Path) -> None:
    """Texts, pictures, and both, each with one passage to be told from its neighbour's; what learns are adapters alone."""
    save_tiny_vlm(tmp_path / "vlm", "qwen2_vl", [*ANSWERS, *WORDS])
    save_pictures(tmp_path / "images", [f"q{i}" for i in range(16)])
    queries, documents = [], []
    for number in range(16):
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        form = "tib"[number % 3]
        query = {"query_id": f"q{number}", "positives": [f"d{number}"]}
        query |= {} if form == "i" else {"question": " ".join(words)}
        queries.append(query | ({} if form == "t" else {"image": f"q{number}"}))
        documents.append({"id": f"d{number}", "text": " ".join(words[::-1]) + " tree"})
    for name, rows in (("queries", queries), ("corpus", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = [(q, (q + other) % 16, rank) for q in range(16) for rank, other in enumerate((q % 2, 1 - q % 2))]
    (tmp_path / "first.trec").write_text("".join(f"q{q} Q0 d{d} {r} {9 - r} x\n" for q, d, r in places))
    (tmp_path / "one.txt").write_text("{question}\n<ImageHere>\n{passage}\n")
    lora = LORA | {"r": 16, "alpha": 32}
    values = {
        "model": {"kind": "vlm", "folder": "vlm", "lora": lora}, "output": "trained", "epochs": 35, "workers": 0, "batch_size": 8,
        "rerank": {
            "queries": "queries.jsonl", "corpus": "corpus.jsonl", "run": "first.trec", "images": "images", "samples": ["yes", "no"],
            "pointwise_template": "one.txt",
        },
        "optimizer": {"lr": 8e-3, "min_lr": 2e-3, "warmup_steps": 5, "weight_decay": 0.0}, "save_every": 1000,
    }  # fmt: skip
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", str(tmp_path / "train.yaml")]) == 0
    right = []
    for checkpoint in (None, "trained/final"):
        settings = {"lora": lora, "checkpoint": checkpoint, "prompt": {"template": "one.txt"}}
        made, read = scorer(tmp_path, KINDS[0], **settings)
        pairs = [made.score(query, np.array([n, (n + 1) % 16])) for n, query in enumerate(read)]
        right.append(np.mean([own > other for own, other in pairs]))
    assert right[0] < 0.8
    assert right[1] == 1.0
