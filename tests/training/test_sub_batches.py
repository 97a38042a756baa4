"""Batches of blocks of one data set: their order, and a training that is fed by it and goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoder import save_tiny_encoder
from tiny_pictures import WORDS

from gemkr.config.files import from_mapping
from gemkr.data.documents import DocumentStore
from gemkr.errors import ConfigError
from gemkr.models.weights import weights_digest
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.training.contrastive.data import PairDataset, make_pairs
from gemkr.training.contrastive.run import train_encoder
from gemkr.training.loop.log import read_rows
from gemkr.training.loop.order import BatchOrder, SubBatches
from gemkr.types import Document, Query

EARLIER = [[[8, 7], [6, 1], [5, 2], [4, 10], [0, 9], [3]], [[8, 7], [5, 2], [6, 1], [4, 10], [0, 9], [3]]]
"""What BatchOrder gave for LENGTHS before there were sub-batches."""
LENGTHS, QUERIES = [5, 3, 8, 9, 1, 7, 2, 5, 4, 6, 1], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]


def test_without_sub_batches_the_order_is_what_it_was() -> None:
    order = BatchOrder(LENGTHS, 2, 3, groups=QUERIES)
    assert [[b.tolist() for b in order.batches(epoch)] for epoch in (0, 1)] == EARLIER


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=120),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 9),
)
def test_blocks_hold_one_data_set(
    data_sets: list[int], size: int, per_batch: int, drop_last: bool, seed: int
) -> None:
    """Every sample once an epoch; as many blocks of one data set as its samples fill, though batches are shuffled."""
    counts = np.bincount(data_sets)
    if counts.max() < size:
        data_sets, counts = [0] * size, np.array([size])
    lengths = [(7 * i) % 13 for i in range(len(data_sets))]
    batch_size = size * per_batch
    order = BatchOrder(
        lengths, batch_size, seed, drop_last=drop_last, sub_batches=SubBatches(size, data_sets)
    )
    batches = order.batches(2)
    assert len(batches) == len(order)
    assert [b.tolist() for b in batches] == [b.tolist() for b in order.batches(2)]
    fed = np.concatenate(batches).tolist()
    assert len(set(fed)) == len(fed)
    dropped = len(data_sets) % batch_size if drop_last and len(data_sets) >= batch_size else 0
    assert len(fed) == len(data_sets) - dropped
    assert all(len(batch) == batch_size for batch in batches[:-1])
    blocks = [batch[i : i + size] for batch in batches for i in range(0, len(batch), size)]
    whole = sum(len(block) == size and len({data_sets[int(i)] for i in block}) == 1 for block in blocks)
    assert whole >= sum(count // size for count in counts.tolist()) - -(-dropped // size)


def test_other_epochs_and_seeds_make_other_blocks() -> None:
    data_sets = [i % 3 for i in range(60)]
    sub = SubBatches(4, data_sets)
    orders = [
        BatchOrder([1] * 60, 8, seed, sub_batches=sub).batches(epoch)
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(np.concatenate(order).tolist()) for order in orders}) == 3


def test_data_sets_are_told_apart_by_ids_or_instructions() -> None:
    documents = DocumentStore([Document("d", "fox")])
    names = [("9:1", "find"), ("2:1", "find"), ("9:2", None), ("a", "find"), ("b", "find"), ("c", None)]
    queries = [Query(name, "fox", instruction=text, positives=("d",)) for name, text in names]
    dataset = PairDataset(make_pairs(queries, documents, None, None, "here"), documents)
    assert dataset.data_sets().tolist() == [0, 1, 0, 2, 2, 3]
    assert dataset.groups().tolist() == [0, 1, 2, 3, 4, 5]


def test_sub_batches_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"sub_batch 3 does not divide the 8 samples of a batch"):
        BatchOrder([1] * 20, 8, 0, sub_batches=SubBatches(3, [0] * 20))
    with pytest.raises(ConfigError, match=r"no data set has the 8 samples of a sub_batch, the largest has 5"):
        BatchOrder([1] * 20, 8, 0, sub_batches=SubBatches(8, [i % 4 for i in range(20)]))


def test_a_training_in_sub_batches_resumes_to_the_last_digit(tmp_path: Path) -> None:
    save_tiny_encoder(tmp_path / "encoder", WORDS)
    queries, documents = [], []
    for number in range(20):
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        queries.append(
            {"query_id": f"{number % 2}:{number}", "question": " ".join(words), "positives": [f"d{number}"]}
        )
        documents.append({"id": f"d{number}", "text": " ".join(words[::-1])})
    for name, rows in (("queries", queries), ("corpus", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def configure(name: str, **changes: object) -> ContrastiveConfig:
        values = {
            "encoder": {"kind": "sentence_transformers", "folder": str(tmp_path / "encoder")},
            "corpus": str(tmp_path / "corpus.jsonl"), "queries": str(tmp_path / "queries.jsonl"), "output": str(tmp_path / name),
            "batch_size": 8, "sub_batch": 4, "epochs": 2, "workers": 0, "log_every": 1, "save_every": 2, "keep_checkpoints": 9,
        }  # fmt: skip
        return from_mapping(values | changes, ContrastiveConfig, "test")

    outcome = train_encoder(configure("whole"))
    assert outcome.step == 6
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for name in ("final", "step-000004", "step-000006"):
        shutil.rmtree(tmp_path / "part" / name)
    resumed = train_encoder(configure("part"), resume="auto")
    whole, part, plain = (tmp_path / name for name in ("whole", "part", "plain"))
    assert [row["loss"] for row in read_rows(part)] == [row["loss"] for row in read_rows(whole)]
    first, second = (read_checkpoint(done.checkpoint).weights for done in (outcome, resumed))
    assert weights_digest(first) == weights_digest(second)
    train_encoder(configure("plain", sub_batch=None))
    assert [row["loss"] for row in read_rows(plain)] != [row["loss"] for row in read_rows(whole)]
    with pytest.raises(ConfigError, match="sub_batch 5 does not divide"):
        train_encoder(configure("other", sub_batch=5))
