"""Two processes learn what one learns over the whole batch: gradients tensor by tensor, in chunks, with dropout, with BLIP's queue, by late
interaction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_flmr import save_regions, save_tiny_text
from tiny_pictures import WORDS, save_pictures, save_tiny_blip, save_tiny_clip
from torch import Tensor

from gemkr.config.files import from_mapping
from gemkr.models.weights import load_weights, trained_parameters
from gemkr.training.checkpoints.checkpoint import Checkpoint, read_checkpoint
from gemkr.training.checkpoints.folder import step_folder
from gemkr.training.contrastive import run
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.training.contrastive.data import ContrastiveBatch
from gemkr.training.contrastive.gather import NONE, distinct
from gemkr.training.contrastive.model import ContrastiveModel, joined
from gemkr.training.loop.feed import BatchFeed
from gemkr.training.loop.log import read_rows
from gemkr.training.loop.optimizer import split_carried
from gemkr.training.loop.step import _seed

ROOT = Path(__file__).resolve().parents[2]
STEPS = 2
PROGRAM = """
import os, socket, sys
import accelerate
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BlipForImageTextRetrieval, CLIPModel
import gemkr.training.contrastive.run
from gemkr.cli import main
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
children = []
for rank in range(2):
    children.append(os.fork())
    if not children[-1]:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        sys.exit(max(main(["train", path]) for path in sys.argv[1:]))
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""
"""The environment that torchrun makes, in two processes that import once."""
QUEUE = {"momentum": 0.7, "ramp_steps": 2}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"encoder": "clip"},
    "queue": {"encoder": "blip", "queue": {**QUEUE, "size": 64}},
    "dropout": {"encoder": "dropped"},
    "dropout_queue": {"encoder": "dropped", "queue": {**QUEUE, "size": 11}},
    "tokens": {"encoder": "bert"},
    "dropout_tokens": {"encoder": "dropped_bert"},
}
TOKENS = {
    "width": 16,
    "query_tokens": 10,
    "document_tokens": 20,
    "image_tokens": 2,
    "seen_tokens": 8,
    "regions": 2,
}


def encoder_of(folder: Path, name: str) -> dict[str, Any]:
    """Of tokens: preflmr with a text tower of that name, all of it learning."""
    path = str(folder / name)
    if "bert" in name:
        return {
            "kind": "preflmr",
            "text": path,
            "vision": str(folder / "clip"),
            "train_vision": True,
            **TOKENS,
        }
    return {"kind": "clip_sf" if name == "clip" else "blip_sf", "folder": path}


def config_of(folder: Path, case: str, output: Path, batch_size: int) -> dict[str, Any]:
    """Chunks of 3, a learned temperature, both directions, gradients that are not cut."""
    loss = {"temperature": 0.2, "learnable": True, "symmetric": True, "queue": CASES[case].get("queue")}
    return {
        "encoder": encoder_of(folder, CASES[case]["encoder"]), "regions": str(folder / "regions"), "images": str(folder / "images"),
        "corpus": str(folder / "corpus.jsonl"), "queries": str(folder / "queries.jsonl"),
        "negatives": {"run": str(folder / "run.trec"), "per_query": 2}, "loss": loss, "output": str(output / case),
        "batch_size": batch_size, "chunk_size": 3, "max_steps": STEPS, "workers": 0, "log_every": 1, "save_every": 1,
        "keep_checkpoints": 9, "optimizer": {"lr": 1e-4, "warmup_steps": 0, "max_grad_norm": None},
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, pictures and both; documents that answer several queries and are hard negatives of others; and the runs of two
    processes under `two`."""
    folder = tmp_path_factory.mktemp("processes")
    save_tiny_clip(folder / "clip")
    save_tiny_blip(folder / "blip", dropout=0.0)
    save_tiny_blip(folder / "dropped", dropout=0.3)
    save_tiny_text(folder / "bert")
    save_tiny_text(folder / "dropped_bert", dropout=0.3)
    pictures = save_pictures(folder / "images", ["one", "two", "three"])
    save_regions(
        folder / "regions",
        pictures,
        {"one": [[2, 2, 12, 20]], "two": [], "three": [[0, 0, 9, 9], [8, 4, 22, 30]]},
    )
    queries, documents, run_lines = [], [], []
    for number in range(24):
        text = " ".join(WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7, 3)[: 2 + number % 3])
        picture = {"image": ("one", "two", "three")[number % 3]} if number % 4 == 1 else {}
        answers = [f"d{number % 16}", *([f"d{(number + 5) % 16}"] if number % 5 == 0 else [])]
        queries.append({"query_id": f"q{number}", "question": text, "positives": answers, **picture})
        run_lines += [f"q{number} Q0 d{(number // 3 + j) % 16} {j} {9 - j} bm25\n" for j in range(1, 5)]
        if number < 16:
            documents.append({"id": f"d{number}", "text": f"tree {text}", **picture})
    for name, rows in (("queries", queries), ("corpus", documents)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.trec").write_text("".join(run_lines))
    files = []
    for case in CASES:
        files.append(str(folder / f"{case}.yaml"))
        Path(files[-1]).write_text(json.dumps(config_of(folder, case, folder / "two", 4)))
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)
    }  # fmt: skip
    command = [sys.executable, "-c", PROGRAM, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return folder


def gradients(output: Path, step: int) -> dict[str, Tensor]:
    """Those of a step, from AdamW's mean of gradients (beta 0.9) before and after it."""
    after = read_checkpoint(step_folder(output, step)).optimizer
    before = {} if step == 1 else read_checkpoint(step_folder(output, step - 1)).optimizer
    means = {name: value for name, value in after.items() if name.startswith("exp_avg/")}
    return {
        name.removeprefix("exp_avg/"): (value - 0.9 * before.get(name, 0)) / 0.1
        for name, value in means.items()
    }


def require_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert len(found) > 60
    assert max(float(value.abs().max()) for value in expected.values()) > 0.05
    for name, value in found.items():
        torch.testing.assert_close(
            value, expected[name], atol=1e-5, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("case", ["plain", "queue", "tokens"])
def test_two_processes_learn_what_one_learns(folder: Path, tmp_path: Path, case: str) -> None:
    """A run of one process with batches twice as large: losses, gradients of every tensor at each step, and the queue's documents."""
    run.train_encoder(from_mapping(config_of(folder, case, tmp_path, 8), ContrastiveConfig, "test"))
    one, two = tmp_path / case, folder / "two" / case
    losses, others = ([row["loss"] for row in read_rows(output)] for output in (one, two))
    assert len(losses) == STEPS
    assert losses == pytest.approx(others, rel=1e-5)
    for step in range(1, STEPS + 1):
        require_equal(gradients(two, step), gradients(one, step))
    kept = [split_carried(read_checkpoint(step_folder(output, STEPS)).optimizer)[1] for output in (one, two)]
    if case == "queue":
        first, second = (sorted(tensors["documents_wanted"].tolist()) for tensors in kept)
        assert first == second
        assert first[-1] > NONE


@pytest.mark.parametrize("case", ["dropout", "dropout_queue", "dropout_tokens"])
def test_gradients_with_dropout_are_those_of_the_whole_batch(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process over both batches with every graph held, under the masks that each process draws: its own generator's, chunk by
    chunk. From the weights and the queue of each checkpoint."""
    output, made = folder / "two" / case, []
    monkeypatch.setattr(run, "train", lambda *given, **_: made.append(given))
    config = from_mapping(config_of(folder, case, folder / "reference", 4), ContrastiveConfig, "test")
    run.train_encoder(config)
    model, data = made[0][:2]
    feeds = [BatchFeed(data, config, rank=r, world=2, pin_memory=False).groups(0) for r in range(2)]
    losses = [row["loss"] for row in read_rows(output)]
    for step, parts in enumerate(zip(*feeds, strict=True)):
        if step:
            put_back(model, read_checkpoint(step_folder(output, step)))
        loss = whole_loss(model, [batch for (batch,) in parts], config.seed, step)
        model.zero_grad()
        loss.backward()
        assert losses[step] == pytest.approx(float(loss.detach()), rel=1e-5)
        found = {name: parameter.grad for name, parameter in trained_parameters(model).items()}
        require_equal(gradients(output, step + 1), found)
    assert step + 1 == STEPS


def put_back(model: ContrastiveModel, checkpoint: Checkpoint) -> None:
    load_weights(trained_parameters(model), checkpoint.weights, "the checkpoint")
    model.recall(split_carried(checkpoint.optimizer)[1])


def whole_loss(model: ContrastiveModel, parts: list[ContrastiveBatch], seed: int, step: int) -> Tensor:
    """The loss of one process over the batches of all, without gathering, chunks or a second pass."""
    sides: list[list[Tensor]] = [[], []]
    for rank, part in enumerate(parts):
        _seed(seed, step, rank)
        for side, chunks in zip(sides, (part.queries, part.documents), strict=True):
            side += [model.network(chunk) for chunk in chunks]
    vectors = iter([joined(side) for side in sides])
    most = max(part.positives.shape[1] for part in parts)
    both = ContrastiveBatch(
        sum((part.queries for part in parts), ()),
        sum((part.documents for part in parts), ()),
        torch.cat([parts[0].targets, parts[1].targets + len(parts[0].numbers)]),
        torch.cat([part.numbers for part in parts]),
        torch.cat(
            [
                torch.nn.functional.pad(part.positives, (0, most - part.positives.shape[1]), value=NONE)
                for part in parts
            ]
        ),
    )
    assert len(both.numbers.unique()) < len(both.numbers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContrastiveModel, "_encode", lambda *_: next(vectors))
        return model(both)


def test_a_number_counts_where_it_first_stands() -> None:
    kept, place = distinct(torch.tensor([7, 3, 7, 9, 3, 0]))
    assert kept.tolist() == [0, 1, 3, 5]
    assert place.tolist() == [0, 1, 0, 2, 1, 3]
