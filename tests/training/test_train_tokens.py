"""Contrastive training of token encoders: sixteen pairs are learned, towers stay frozen, stages build on each other."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_contrastive import FORMS
from tiny_encoder import save_tiny_encoder
from tiny_flmr import MARKED, save_regions, save_tiny_text
from tiny_pictures import WORDS, save_pictures, save_tiny_clip

from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError, ConfigError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.flmr.encoder import LEARNS
from gemkr.models.weights import weights_digest
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.contrastive import run
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.training.contrastive.model import ContrastiveModel, info_nce, similarities
from gemkr.training.contrastive.run import Material, train_encoder
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore

SIZES = {"width": 16, "query_tokens": 10, "document_tokens": 12, "image_tokens": 2, "seen_tokens": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pairs of texts, pictures and both, with instructions and regions."""
    folder = tmp_path_factory.mktemp("tokens")
    save_tiny_text(folder / "bert")
    save_tiny_clip(folder / "clip")
    names = [f"{side}{number}" for number in range(16) for side in "qd"]
    pictures = save_pictures(folder / "images", names)
    save_regions(folder / "regions", pictures, {name: [[2, 2, 12, 20]] for name in names})
    queries, documents = [], []
    for number in range(16):
        of_query, of_document = FORMS[number % 3], FORMS[number // 3 % 3]
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        query = {"query_id": f"q{number}", "positives": [f"d{number}"]}
        query |= {"question": " ".join(words)} if of_query != "i" else {}
        query |= {"image": f"q{number}"} if of_query != "t" else {}
        query |= {"instruction": "find a photo:"} if number % 2 else {}
        queries.append(query)
        document = {"id": f"d{number}", "text": " ".join(words[::-1]) + " tree" if of_document != "i" else ""}
        documents.append(document | ({"image": f"d{number}"} if of_document != "t" else {}))
    for name, rows in (("queries", queries), ("corpus", documents)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def section(folder: Path, **changes: object) -> dict:
    towers = {"text": str(folder / "bert"), "vision": str(folder / "clip")}
    return {"kind": "preflmr", **towers, **SIZES, **changes}


def configure(folder: Path, output: Path, encoder: dict, **changes: object) -> ContrastiveConfig:
    values = {
        "encoder": encoder, "corpus": str(folder / "corpus.jsonl"), "queries": str(folder / "queries.jsonl"),
        "images": str(folder / "images"), "regions": str(folder / "regions"), "output": str(output),
        "loss": {"temperature": 0.2}, "batch_size": 16, "epochs": 25, "workers": 0, "save_every": 1000,
        "optimizer": {"lr": 1e-2, "min_lr": 2e-3, "warmup_steps": 3, "weight_decay": 0.0},
    }  # fmt: skip
    return from_mapping(values | changes, ContrastiveConfig, "test")


def hits_at_1(folder: Path, encoder: dict, tmp_path: Path) -> float:
    values = {
        "queries": str(folder / "queries.jsonl"), "corpus": str(folder / "corpus.jsonl"), "images": str(folder / "images"),
        "regions": str(folder / "regions"), "output": str(tmp_path / "eval"),
        "retrievers": {"own": {"kind": "late_interaction", "encoder": encoder}},
    }  # fmt: skip
    sources = from_mapping(values, EvalConfig, "test").sources()
    rankings = sources.retriever("own").retrieve(sources.queries, 1)
    return (
        sum(r.hits[0].doc_id == q.positives[0] for r, q in zip(rankings, sources.queries, strict=True)) / 16
    )


def digests(network: torch.nn.Module) -> dict[str, str]:
    """Each part of a network -> the hash of its parameters and buffers."""
    parts: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in network.state_dict().items():
        parts[name.split(".")[0]][name] = tensor
    return {part: weights_digest(tensors) for part, tensors in parts.items()}


def test_preflmr_learns_sixteen_pairs_behind_a_frozen_tower(folder: Path, tmp_path: Path) -> None:
    own = section(folder, regions=1)
    assert hits_at_1(folder, own, tmp_path) < 0.5
    outcome = train_encoder(configure(folder, tmp_path / "run", own, chunk_size=6))
    trained = own | {"checkpoint": str(outcome.checkpoint)}
    assert hits_at_1(folder, trained, tmp_path) == 1.0
    weights = read_checkpoint(outcome.checkpoint).weights
    assert not [name for name in weights if name.startswith("network.vision.")]


def test_stages_build_on_each_other(folder: Path, tmp_path: Path) -> None:
    """The text first, the mapping over it, then all; each checkpoint holds what its stage taught, and knows what it stands on."""
    text, mapping = section(folder, learns="text"), section(folder, learns="mapping")
    first = train_encoder(configure(folder, tmp_path / "text", text, epochs=2)).checkpoint
    names = {name.split(".")[1] for name in read_checkpoint(first).weights}
    assert names == {"query_text", "query_linear"}
    stages = [{"learns": "text", "checkpoint": str(first)}]
    second = train_encoder(
        configure(
            folder, tmp_path / "mapping", mapping | {"stages": stages, "score_question": False}, epochs=2
        )
    ).checkpoint
    names = {name.split(".")[1] for name in read_checkpoint(second).weights}
    assert names == {"image_mapping", "patch_input", "patch_layers", "patch_output"}
    stages.append({"learns": "mapping", "checkpoint": str(second)})
    last = section(folder, stages=stages)
    encoder = configure(folder, tmp_path / "none", last).encoder.build(Material(None))
    for checkpoint in (first, second):
        for name, value in read_checkpoint(checkpoint).weights.items():
            found = encoder.network.state_dict()[name.removeprefix("network.")]
            assert torch.equal(found, value)
    with pytest.raises(CheckpointError, match="was trained on the encoder"):
        configure(folder, tmp_path / "none", section(folder, stages=stages[1:])).encoder.build(Material(None))


@pytest.mark.parametrize("learns", ["text", "mapping", "all"])
@pytest.mark.parametrize("vision", [False, True])
def test_training_changes_what_its_stage_names(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learns: str, vision: bool
) -> None:
    """By hashes, before and after the loop, of the network that it trains: AdamW with weight decay, chunks, pictures and regions in
    every batch. The vision tower changes where it is told to, and then the checkpoint holds it."""
    train, found = run.train, []

    def watched(model: ContrastiveModel, *given: object, **more: object) -> object:
        found.append(digests(model.network))
        outcome = train(model, *given, **more)
        found.append(digests(model.network))
        return outcome

    monkeypatch.setattr(run, "train", watched)
    own = section(folder, regions=1, separate=True, learns=learns, train_vision=vision)
    steps = {"optimizer": {"lr": 1e-2, "warmup_steps": 0, "weight_decay": 0.1}, "max_steps": 3}
    config = configure(folder, tmp_path / "run", own, chunk_size=6, **steps)
    outcome = train_encoder(config)
    assert outcome.step == 3
    before, after = found
    wanted = {name for stage, names in LEARNS.items() if learns in (stage, "all") for name in names}
    assert {part for part in before if before[part] != after[part]} == wanted | (
        {"vision"} if vision else set()
    )
    assert set(before) == {*LEARNS["text"], *LEARNS["mapping"], "vision"}
    again = configure(folder, tmp_path / "none", own | {"checkpoint": str(outcome.checkpoint)})
    material = Material(PictureFolder(folder / "images"), RegionStore.open(folder / "regions"))
    assert digests(again.encoder.build(material).network) == after


def test_a_multi_vector_folder_learns_pairs_of_texts(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path / "encoder", MARKED)
    queries, documents = [], []
    for number in range(16):
        words = " ".join(WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7))
        queries.append({"query_id": f"q{number}", "question": words, "positives": [f"d{number}"]})
        text = " ".join(WORDS[(number * step + 8) % len(WORDS)] for step in (5, 11))
        documents.append({"id": f"d{number}", "text": text})
    for name, rows in (("queries", queries), ("corpus", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "images").mkdir()
    own = {"kind": "multi_vector", "folder": str(tmp_path / "encoder")}
    config = configure(tmp_path, tmp_path / "run", own, images=None, regions=None, epochs=40)
    outcome = train_encoder(config)
    values = {"queries": "queries.jsonl", "corpus": "corpus.jsonl", "output": "eval"}
    retrievers = {
        "own": {"kind": "late_interaction", "encoder": own | {"checkpoint": str(outcome.checkpoint)}}
    }
    sources = from_mapping(
        {key: str(tmp_path / name) for key, name in values.items()} | {"retrievers": retrievers},
        EvalConfig,
        "test",
    ).sources()
    rankings = list(sources.retriever("own").retrieve(sources.queries, 1))
    assert [r.hits[0].doc_id for r in rankings] == [q.positives[0] for q in sources.queries]


def ragged(random: torch.Generator, lengths: list[int]) -> torch.Tensor:
    vectors = torch.randn(len(lengths), max(lengths), 5, generator=random, dtype=torch.float64)
    for row, length in enumerate(lengths):
        vectors[row, length:] = 0
    return vectors


def test_similarities_are_those_of_a_loop() -> None:
    random = torch.Generator().manual_seed(1)
    queries, documents = ragged(random, [3, 1, 4]), ragged(random, [2, 5, 0, 3])
    found = similarities(queries, documents)
    for i in range(3):
        for j in range(4):
            own = [d for d in documents[j] if d.any()]
            expected = (
                sum(max(float(q @ d) for d in own) for q in queries[i] if q.any()) if own else -math.inf
            )
            assert float(found[i, j]) == pytest.approx(expected)


@pytest.mark.parametrize("symmetric", [False, True])
def test_documents_without_a_token_are_left_out_of_the_loss(symmetric: bool) -> None:
    """A target (of query 1) and a negative: losses and gradients, also that of the temperature, are those without both, and finite where
    the query is still a negative of other documents."""
    torch.manual_seed(0)
    drawn = torch.randn(3, 2, 4), torch.randn(5, 3, 4)
    drawn[1][1], drawn[1][4] = 0, 0
    targets, relevant = torch.tensor([0, 1, 2]), torch.zeros(3, 5, dtype=torch.bool)
    found = []
    for rows, columns in (([0, 1, 2], [0, 1, 2, 3, 4]), ([0, 2], [0, 2, 3])):
        queries, documents = (part.clone().requires_grad_() for part in drawn)
        scale = torch.tensor(3.0, requires_grad=True)
        own = targets[rows] if len(rows) == 3 else torch.tensor([0, 1])
        given = queries[rows], documents[columns], own, relevant[rows][:, columns], scale
        losses = info_nce(*given, symmetric=symmetric)
        losses.sum().backward()
        found.append((losses.detach(), queries.grad, documents.grad, scale.grad))
    assert found[0][0][1] == 0
    for whole, without in zip(found[0], found[1], strict=True):
        assert whole.isfinite().all()
        if not symmetric:
            torch.testing.assert_close(whole[[0, 2]] if whole is found[0][0] else whole, without)


def test_sources_without_regions_are_enough_for_texts(folder: Path) -> None:
    config = configure(folder, folder / "none", section(folder, vision=None))
    assert config.encoder.build(SimpleNamespace(pictures=None)).width == 16


def test_a_queue_is_for_encoders_of_one_vector(folder: Path, tmp_path: Path) -> None:
    config = configure(folder, tmp_path / "run", section(folder), loss={"queue": {"size": 8}})
    with pytest.raises(
        ConfigError, match=r"loss\.queue keeps one vector a document and 'preflmr' makes one a token"
    ):
        train_encoder(config)
