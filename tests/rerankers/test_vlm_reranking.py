"""Rerankers that ask a vision-language model: they see the pictures of queries and documents, learn with adapters, and
LamRA-Rank's are imported."""

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

import gemkr
from gemkr.cli import main
from gemkr.config.files import load_config
from gemkr.errors import CheckpointError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.gemkr.fields import PICTURE
from gemkr.models.hf.adapters import VISION
from gemkr.models.weights import weights_digest
from gemkr.rerankers.candidates import Candidate, candidate_of
from gemkr.rerankers.config import RerankerTrainConfig
from gemkr.rerankers.material import read_material
from gemkr.types import Document, Query

ANSWERS = ["Yes", "No", "1", "2", "3", "Question", "Passage", "Passages", "("]
LORA = {"r": 2, "alpha": 8, "dropout": 0.0, "targets": r".*\.(q|k|v|o|gate|up|down)_proj"}
KINDS = [{"kind": "yes_no"}, {"kind": "listwise", "window": 3}]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries with and without a picture, and a run over three documents."""
    home = tmp_path_factory.mktemp("vlm")
    save_tiny_vlm(home / "vlm", "qwen2_vl", [*ANSWERS, *WORDS])
    save_pictures(home / "images", ["one", "two", "three"])
    queries = [
        {"query_id": "q0", "question": "which cat", "image": "one", "positives": ["d0"]},
        {"query_id": "q1", "question": "which dog", "positives": ["d1"]},
    ]
    documents = [
        {"id": "d0", "text": "the cat house"},
        {"id": "d1", "text": "the dog house", "image": "two"},
        {"id": "d2", "image": "three"},
    ]
    for name, rows in (("queries", queries), ("corpus", documents)):
        (home / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "first.trec").write_text(
        "".join(f"q{q} Q0 d{d} {d} {9 - d} x\n" for q in (0, 1) for d in range(3))
    )
    return home


def scorer(home: Path, reranker: dict, images: str | None = "images", **model: object):
    values = {
        "corpus": "corpus.jsonl", "queries": "queries.jsonl", "images": images, "output": "out",
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


CANDIDATES = [Candidate("the cat house"), Candidate("the dog house", "two"), Candidate("", "three")]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_softmax_of_the_answers(home: Path, kind: dict) -> None:
    made, queries = scorer(home, kind, lora=None)
    model = AutoModelForImageTextToText.from_pretrained(home / "vlm").eval()
    for query in queries:
        scores = made.score(query, np.arange(3))
        own = int(query.image is not None)
        if kind["kind"] == "yes_no":
            prompts = [
                made.asked.prompts(query, passage=one.passage, images=one.images) for one in CANDIDATES
            ]
            expected = plain(model, made, prompts)[:, 0]
            assert [len(prompt.pictures) for prompt in prompts] == [own, own + 1, own + 1]
        else:
            prompts = [made.prompt(query, CANDIDATES)]
            expected = plain(model, made, prompts)[0]
            assert len(prompts[0].pictures) == own + 2
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        assert np.ptp(scores) > 1e-3


def test_a_tidied_text_stands_right_behind_its_picture() -> None:
    """As in LamRA's chats; others have a space between them."""
    document = Document("d", "the dog house", image="two")
    tidied, plain = (
        candidate_of(Query("q", "a"), document, "yes_no", pictures=True, tidied=tidied)
        for tidied in (True, False)
    )
    assert (tidied.passage, plain.passage) == (f"{PICTURE}The dog house.", f"{PICTURE} the dog house")
    assert tidied.images == plain.images == ("two",)


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_folder_of_pictures_texts_are_read(home: Path, kind: dict) -> None:
    made, (_, query) = scorer(home, kind, images=None, lora=None)
    assert made.score(query, np.arange(2)).shape == (2,)
    with pytest.raises(DataError, match=r"'d2', a hit of the query 'q1', has no text, .* that sees pictures"):
        made.score(query, np.arange(3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_brings_a_picture(home: Path, kind: dict) -> None:
    scorer(home, kind, lora=None)
    values = yaml.safe_load((home / "mine.yaml").read_text())
    values["retrievers"]["first"] = {"kind": "bm25"}
    (home / "live.yaml").write_text(yaml.safe_dump(values))
    live = gemkr.load(home / "live.yaml", retriever="again")
    shown, alone = (
        [hit.score for hit in live.ask("the house", picture).hits]
        for picture in (home / "images" / "one.png", None)
    )
    assert len(shown) == len(alone) == 2
    assert np.abs(np.log(shown) - np.log(alone)).max() > 0.01


def write_training(home: Path, lora: dict = LORA | {"dora": False}) -> str:
    values = {
        "model": {"kind": "vlm", "folder": "vlm", "lora": lora}, "output": f"trained_{lora['dora']}", "epochs": 3, "workers": 0, "batch_size": 6,
        "rerank": {"queries": "queries.jsonl", "corpus": "corpus.jsonl", "run": "first.trec", "images": "images", "list_size": 3},
        "optimizer": {"lr": 2e-2, "warmup_steps": 0}, "log_every": 1,
    }  # fmt: skip
    (home / "train.yaml").write_text(yaml.safe_dump(values))
    return str(home / "train.yaml")


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_are_trained_and_the_tower_is_not(
    home: Path, dora: bool, capsys: pytest.CaptureFixture
) -> None:
    lora = {**LORA, "dora": dora}
    assert main(["train", write_training(home, lora)]) == 0
    before, _ = scorer(home, KINDS[0], lora=lora)
    after, queries = scorer(home, KINDS[0], lora=lora, checkpoint=f"trained_{dora}/final")
    learned = after.asked.model.trainable_parameters()
    assert any("lora_magnitude_vector" in name for name in learned) == dora
    with pytest.raises(
        CheckpointError, match=rf"was trained with model\.lora\.dora = {dora}, this .* has {not dora}"
    ):
        scorer(home, KINDS[0], lora={**lora, "dora": not dora}, checkpoint=f"trained_{dora}/final")
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
        use_dora=older,
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
    lora = {**LORA, "dora": older}
    config.write_text(yaml.safe_dump({"model": {"kind": "vlm", "folder": str(home / "vlm"), "lora": lora}}))
    words = ["import-checkpoint", str(tmp_path / "peft"), "--config", str(config)]
    assert main([*words, "-o", str(tmp_path / "imported")]) == 0
    made, queries = scorer(home, KINDS[0], lora=lora, checkpoint=str(tmp_path / "imported"))
    prompts = [made.asked.prompts(queries[0], passage=one.passage, images=one.images) for one in CANDIDATES]
    expected = plain(theirs.eval(), made, prompts)[:, 0]
    np.testing.assert_allclose(made.score(queries[0], np.arange(3)), expected, atol=1e-5)
    capsys.readouterr()
    assert main([*words, "-o", str(tmp_path / "other"), "model.lora.r=4"]) == 1
    assert "have r: 2, the model lora.r: 4; set model.lora.r to theirs" in capsys.readouterr().err
    text = yaml.safe_dump({"model": {"llm": str(home / "vlm")}})
    config.write_text(text)
    assert main([*words, "-o", str(tmp_path / "other")]) == 1
    assert "are of a vision-language model; set model.kind: vlm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "samples", "turned"),
    [({"kind": "yes_no"}, ["yes", "no"], False), ({"kind": "yes_no"}, ["yes", "no"], True),
     ({"kind": "listwise", "window": 2}, ["listwise"], False), ({"kind": "listwise", "window": 2}, ["listwise"], True)],
)  # fmt: skip
def test_sixteen_queries_of_every_form_are_learned(
    tmp_path: Path, kind: dict, samples: list[str], turned: bool
) -> None:
    """Texts, pictures, and both, on either side, each to be told from its neighbour's, in some lists before it and in some behind;
    turned, what was a query is to be found by what was its document. What learns are adapters alone."""
    save_tiny_vlm(tmp_path / "vlm", "qwen2_vl", [*ANSWERS, *WORDS])
    save_pictures(tmp_path / "images", [f"{side}{i}" for i in range(16) for side in "qd"])
    queries, documents = [], []
    for number in range(16):
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        sides = [
            ("tib"[number % 3], " ".join(words), f"q{number}"),
            ("tib"[number // 3 % 3], " ".join(words[::-1]) + " tree", f"d{number}"),
        ]
        (form, asked, seen), (other, text, shown) = sides[::-1] if turned else sides
        query = {"query_id": f"q{number}", "positives": [f"d{number}"]}
        query |= {} if form == "i" else {"question": asked}
        queries.append(query | ({} if form == "t" else {"image": seen}))
        document = {"id": f"d{number}"} | ({} if other == "i" else {"text": text})
        documents.append(document | ({} if other == "t" else {"image": shown}))
    for name, rows in (("queries", queries), ("corpus", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    places = [(q, (q + other) % 16, rank) for q in range(16) for rank, other in enumerate((q % 2, 1 - q % 2))]
    (tmp_path / "first.trec").write_text("".join(f"q{q} Q0 d{d} {r} {9 - r} x\n" for q, d, r in places))
    (tmp_path / "one.txt").write_text("{question}\n<ImageHere>\n{passage}\n")
    lora = LORA | {"r": 16, "alpha": 32}
    values = {
        "model": {"kind": "vlm", "folder": "vlm", "lora": lora}, "output": "trained", "epochs": 55, "workers": 0,
        "batch_size": 8,
        "rerank": {
            "queries": "queries.jsonl", "corpus": "corpus.jsonl", "run": "first.trec", "images": "images", "samples": samples,
            "pointwise_template": "one.txt", "listwise_template": "one.txt", "list_size": 2, "draws": 3 - len(samples),
        },
        "optimizer": {"lr": 8e-3, "min_lr": 2e-3, "warmup_steps": 5, "weight_decay": 0.0}, "save_every": 1000,
    }  # fmt: skip
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", str(tmp_path / "train.yaml")]) == 0
    config = load_config(tmp_path / "train.yaml", RerankerTrainConfig)
    drawn = read_material(config.rerank, config.seed, {}, pictures=True).samples
    lists = [(sample.query_id, sample.docs, sample.place) for sample in drawn]
    if kind["kind"] == "yes_no":
        lists = [(f"q{n}", (n, (n + 1) % 16), 0) for n in range(16)]
    right = []
    for checkpoint in (None, "trained/final"):
        settings = {"lora": lora, "checkpoint": checkpoint, "prompt": {"template": "one.txt"}}
        made, read = scorer(tmp_path, kind, **settings)
        by_id = {query.query_id: query for query in read}
        scores = [(made.score(by_id[query_id], np.array(docs)), place) for query_id, docs, place in lists]
        right.append(np.mean([found.argmax() == place for found, place in scores]))
    assert right[0] < 0.8
    assert right[1] == 1.0


def test_pictures_of_documents_that_are_not_there(home: Path, capsys: pytest.CaptureFixture) -> None:
    (home / "few").mkdir()
    (home / "images" / "one.png").rename(home / "few" / "one.png")
    try:
        words = f"rerank.images={home / 'few'}", f"output={home / 'none'}"
        assert main(["train", write_training(home), *words]) == 1
    finally:
        (home / "few" / "one.png").rename(home / "images" / "one.png")
    assert "2 of the 2 pictures of the documents are not in" in capsys.readouterr().err
