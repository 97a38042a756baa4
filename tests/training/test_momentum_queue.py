"""BLIP's momentum queue agrees with a loop that keeps lists, is carried over a stop, and learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoder import save_tiny_encoder
from tiny_pictures import WORDS
from torch import nn

from gemkr.config.files import from_mapping
from gemkr.errors import CheckpointError
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.contrastive.config import ContrastiveConfig, LossConfig, QueueConfig
from gemkr.training.contrastive.data import ContrastiveBatch
from gemkr.training.contrastive.gather import NONE
from gemkr.training.contrastive.model import ContrastiveModel
from gemkr.training.contrastive.run import train_encoder
from gemkr.training.loop.log import read_rows


class Table(nn.Module):
    """An encoder of numbers by a table of vectors of length 1."""

    width = 3

    def __init__(self, values: np.ndarray) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.normalize(self.table[inputs["item"]], dim=-1)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def cross_entropy(vector, copy, others: list, right: list[bool], scale: float, alpha: float) -> float:
    """The twin of one row: `others` are those that take part."""
    scores = [scale * float(vector @ other) for other in others]
    alike = np.exp([scale * float(copy @ other) for other in others])
    alike = alike / alike.sum()
    norm = np.log(np.exp(scores).sum())
    return -sum(
        (alpha * a + (1 - alpha) * r / sum(right)) * (s - norm)
        for s, a, r in zip(scores, alike, right, strict=True)
    )


class Slowly:
    """The twin: the queue is a list that loses its first entries."""

    def __init__(self, table: np.ndarray, config: QueueConfig, scale: float) -> None:
        self.slow, self.config, self.scale, self.steps = table.copy(), config, scale, 0
        self.documents: list[tuple[np.ndarray, int]] = []
        self.queries: list[tuple[np.ndarray, int]] = []

    def loss(self, table: np.ndarray, queries, documents, targets, positives, symmetric: bool) -> float:
        config = self.config
        self.slow = config.momentum * self.slow + (1 - config.momentum) * table
        alpha = config.alpha * (min(1, self.steps / config.ramp_steps) if config.ramp_steps else 1)
        now, slow = unit(table), unit(self.slow)
        new_documents = [(slow[doc], doc) for doc in documents]
        new_queries = [(slow[query], documents[t]) for query, t in zip(queries, targets, strict=True)]
        losses = []
        for b, (query, target) in enumerate(zip(queries, targets, strict=True)):
            wanted = documents[target]
            seen = [
                (vector, doc == wanted)
                for vector, doc in new_documents + self.documents
                if doc == wanted or doc not in positives[b]
            ]
            loss = cross_entropy(
                now[query], slow[query], [v for v, _ in seen], [r for _, r in seen], self.scale, alpha
            )
            if symmetric:
                seen = [
                    (vector, other == wanted)
                    for j, (vector, other) in enumerate(new_queries + self.queries)
                    if other == wanted or j >= len(queries) or wanted not in positives[j]
                ]
                back = cross_entropy(
                    now[wanted], slow[wanted], [v for v, _ in seen], [r for _, r in seen], self.scale, alpha
                )
                loss = (loss + back) / 2
            losses.append(loss)
        self.documents = (self.documents + new_documents)[-config.size :]
        self.queries = (self.queries + new_queries)[-config.size :]
        self.steps += 1
        return float(np.mean(losses))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 9), st.integers(0, 3))
def test_queue_and_loss_agree_with_a_loop(seed: int, symmetric: bool, size: int, ramp: int) -> None:
    """Over four steps whose batches and queues overlap; the encoder moves in between. Documents are 0 to 5, queries the rest."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((16, 3))
    config = QueueConfig(size=size, momentum=0.7, alpha=0.4, ramp_steps=ramp)
    loss = LossConfig(temperature=0.2, symmetric=symmetric, queue=config)
    model = ContrastiveModel(Table(values), loss).train()
    twin = Slowly(values, config, 5.0)
    for step in range(4):
        moved = values + 0.3 * step * random.standard_normal(values.shape)
        with torch.no_grad():
            model.network.table.copy_(torch.tensor(moved, dtype=torch.float32))
        documents = random.permutation(6)[: random.integers(1, 5)]
        targets = random.integers(0, len(documents), random.integers(1, 4))
        queries = 6 + random.permutation(10)[: len(targets)]
        others = random.integers(0, 6, len(targets))
        positives = [{int(documents[t]), int(o)} for t, o in zip(targets, others, strict=True)]
        rows = [sorted(answers) + [NONE] * (2 - len(answers)) for answers in positives]
        batch = ContrastiveBatch(
            ({"item": torch.tensor(queries)},), ({"item": torch.tensor(documents)},),
            torch.tensor(targets), torch.tensor(documents), torch.tensor(rows),
        )  # fmt: skip
        expected = twin.loss(
            moved.astype(np.float32).astype(float),
            queries,
            documents.tolist(),
            targets.tolist(),
            positives,
            symmetric,
        )
        assert model(batch).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_evaluation_changes_nothing() -> None:
    model = ContrastiveModel(Table(np.eye(3)), LossConfig(queue=QueueConfig(size=2))).eval()
    before = {name: tensor.clone() for name, tensor in model.carried().items()}
    item = {"item": torch.tensor([0])}
    model(
        ContrastiveBatch(
            (item,), ({"item": torch.tensor([1])},), torch.tensor([0]), torch.tensor([1]), torch.tensor([[1]])
        )
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in model.carried().items())
    other = ContrastiveModel(Table(np.eye(3)), LossConfig(queue=QueueConfig(size=5)))
    with pytest.raises(CheckpointError, match="momentum queue does not fit this encoder; resume with"):
        other.recall(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_tiny_encoder(tmp_path / "encoder", WORDS)
    queries, documents = [], []
    for number in range(16):
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        queries.append({"query_id": f"q{number}", "question": " ".join(words), "positives": [f"d{number}"]})
        documents.append({"id": f"d{number}", "text": " ".join(words[::-1])})
    for name, rows in (("queries", queries), ("corpus", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def configure(folder: Path, output: str, **changes: object) -> ContrastiveConfig:
    values = {
        "encoder": {"kind": "sentence_transformers", "folder": str(folder / "encoder")},
        "corpus": str(folder / "corpus.jsonl"), "queries": str(folder / "queries.jsonl"), "output": str(folder / output),
        "batch_size": 4, "epochs": 2, "workers": 0, "log_every": 1, "save_every": 3, "keep_checkpoints": 9, "chunk_size": 3,
        "loss": {"temperature": 0.07, "learnable": True, "symmetric": True, "queue": {"size": 6, "momentum": 0.9, "ramp_steps": 4}},
    }  # fmt: skip
    return from_mapping(values | changes, ContrastiveConfig, "test")


def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path) -> None:
    """With dropout, chunks (GradCache) and a learned temperature; the queue and the copy go on too; the final checkpoint holds the encoder alone."""
    outcome = train_encoder(configure(folder, "whole"))
    assert outcome.step == 8
    shutil.copytree(folder / "whole", folder / "part")
    for name in ("final", "step-000006", "step-000008"):
        shutil.rmtree(folder / "part" / name)
    train_encoder(configure(folder, "part"), resume="auto")
    rows = [[(r["loss"], r["grad_norm"]) for r in read_rows(folder / name)] for name in ("whole", "part")]
    assert rows[0] == rows[1]
    assert not any("queue" in name for name in read_checkpoint(outcome.checkpoint).weights)
    train_encoder(
        configure(folder, "plain", loss={"temperature": 0.07, "learnable": True, "symmetric": True})
    )
    assert [row["loss"] for row in read_rows(folder / "plain")] != [loss for loss, _ in rows[0]]
