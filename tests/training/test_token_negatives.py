"""Given and mined negatives of token encoders: the loss is that of a loop over each query's own documents, and training without other
documents in a batch learns from them alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoder import save_tiny_encoder
from tiny_flmr import MARKED, save_tiny_text
from tiny_pictures import WORDS

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries
from gemkr.data.trec import read_run
from gemkr.interfaces import TokenVectors
from gemkr.models.token_embedder import TokenEmbedder
from gemkr.training.contrastive.config import ContrastiveConfig, LossConfig
from gemkr.training.contrastive.data import Collate, PairDataset, make_pairs
from gemkr.training.contrastive.model import ContrastiveModel
from gemkr.training.contrastive.published import EncoderChoice
from gemkr.training.contrastive.run import Material, train_encoder
from gemkr.training.loop.log import read_rows
from gemkr.types import Query

NUMBER = 8
GIVEN = {f"q{n}": [f"d{n}", f"d{(n + 3) % NUMBER}", f"x{n}", f"d{(n + 1) % NUMBER}"] for n in range(NUMBER)}
"""The hits of each query: its own document, another's, one of nobody's, and another's again."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight queries with a document each, the first with two, and eight documents that answer none."""
    folder = tmp_path_factory.mktemp("negatives")
    save_tiny_text(folder / "preflmr")
    save_tiny_encoder(folder / "multi_vector", MARKED)
    queries, documents = [], []
    for n in range(NUMBER):
        words = [WORDS[(n * step + 3) % len(WORDS)] for step in (1, 5, 7, 11)]
        queries.append({"query_id": f"q{n}", "question": " ".join(words[:3]), "positives": [f"d{n}"]})
        documents.append({"id": f"d{n}", "text": " ".join(words[2:])})
        documents.append({"id": f"x{n}", "text": " ".join(words[:2])})  # has more of the question's words
    queries[0]["positives"] = ["d0", "d3"]
    for name, rows in (("queries", queries), ("corpus", documents)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"{q} Q0 {d} {r} {9 - r}.0 t\n" for q, docs in GIVEN.items() for r, d in enumerate(docs, 1)]
    (folder / "given.trec").write_text("".join(lines))
    return folder


def section(folder: Path, kind: str, checkpoint: Path | None = None) -> dict[str, Any]:
    own = {"kind": kind, "checkpoint": checkpoint and str(checkpoint)}
    if kind == "preflmr":
        return own | {"text": str(folder / kind), "width": 16, "query_tokens": 10, "document_tokens": 12}
    return own | {"folder": str(folder / kind)}


def built(folder: Path, kind: str, checkpoint: Path | None = None) -> TokenEmbedder:
    values = {"encoder": section(folder, kind, checkpoint)}
    return from_mapping(values, EncoderChoice, "test").encoder.build(Material(None))


def scores(
    encoder: TokenEmbedder, documents: DocumentStore, queries: list[Query]
) -> dict[str, dict[str, float]]:
    """MaxSim of each query and every document, by a loop."""
    found = {}
    of_documents = parts(encoder.encode_documents([documents.by_id(doc_id) for doc_id in documents.doc_ids]))
    for query, tokens in zip(queries, parts(encoder.encode_queries(queries)), strict=True):
        own = [sum(max(float(a @ b) for b in vectors) for a in tokens) for vectors in of_documents]
        found[query.query_id] = dict(zip(documents.doc_ids, own, strict=True))
    return found


def parts(vectors: TokenVectors) -> list[np.ndarray]:
    return np.split(vectors.values.astype(np.float64), vectors.offsets[1:-1])


def configure(folder: Path, output: Path, kind: str, run: Path | None, **changes: Any) -> ContrastiveConfig:
    values = {
        "encoder": section(folder, kind), "corpus": str(folder / "corpus.jsonl"), "queries": str(folder / "queries.jsonl"),
        "output": str(output), "loss": {"temperature": 0.5}, "batch_size": 1, "epochs": 12, "workers": 0, "save_every": 1000,
        "optimizer": {"lr": 3e-3, "min_lr": 3e-3, "warmup_steps": 3, "weight_decay": 0.0}, "log_every": 9,
        "negatives": run and {"run": str(run), "per_query": 3},
    }  # fmt: skip
    return from_mapping(values | changes, ContrastiveConfig, "test")


@pytest.mark.parametrize("kind", ["preflmr", "multi_vector"])
@pytest.mark.parametrize(("size", "chunk"), [(1, None), (3, None), (9, 4)])
def test_the_loss_counts_every_query_own_negatives(
    folder: Path, kind: str, size: int, chunk: int | None
) -> None:
    """Alone, a query is held against its own negatives only; together, each against those of all, less what answers it."""
    encoder, documents = built(folder, kind), DocumentStore.open(str(folder / "corpus.jsonl"))
    queries = list(read_queries(folder / "queries.jsonl"))
    config = configure(folder, folder / "none", kind, folder / "given.trec").negatives
    pairs = make_pairs(queries, documents, read_run(folder / "given.trec"), config, "test")
    assert len(pairs) == NUMBER + 1
    data, collate = PairDataset(pairs, documents), Collate(encoder.reader, chunk)
    model = ContrastiveModel(encoder.network, LossConfig(temperature=0.5)).eval()
    of = scores(encoder, documents, queries)
    for start in range(0, len(pairs), size):
        samples = [data[number] for number in range(start, min(start + size, len(pairs)))]
        shown = {documents.doc_ids[pair.target] for pair, _ in samples}
        for pair, _ in samples:  # by the run itself, not by what was read of it
            shown |= {d for d in GIVEN[pair.query.query_id] if d not in pair.query.positives}
        losses = []
        for pair, _ in samples:
            own, target = of[pair.query.query_id], documents.doc_ids[pair.target]
            rivals = [d for d in shown if d == target or d not in pair.query.positives]
            losses.append(math.log(sum(math.exp((own[d] - own[target]) / 0.5) for d in rivals)))
        with torch.no_grad():
            assert float(model(collate(samples))) == pytest.approx(np.mean(losses), rel=1e-3, abs=1e-4)


def test_a_query_alone_in_its_batch_learns_from_mined_negatives(folder: Path, tmp_path: Path) -> None:
    """The encoder's own ranking is mined; without negatives a batch of one query has nothing to tell apart, and its loss is 0."""
    kind, documents = "preflmr", DocumentStore.open(str(folder / "corpus.jsonl"))
    values = {
        "queries": str(folder / "queries.jsonl"), "corpus": str(folder / "corpus.jsonl"),
        "retrievers": {"own": {"kind": "late_interaction", "encoder": section(folder, kind)}},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(values))
    mined = tmp_path / "mined.trec"
    assert (
        main(["mine-negatives", str(tmp_path / "mine.yaml"), "own", "-o", str(mined), "--per-query", "3"])
        == 0
    )
    negatives = {query_id: [hit.doc_id for hit in hits] for query_id, hits in read_run(mined).items()}

    def right(checkpoint: Path | None) -> int:
        """Of the negatives of all queries, those that score below each document that answers their query."""
        queries, found = list(read_queries(folder / "queries.jsonl")), 0
        of = scores(built(folder, kind, checkpoint), documents, queries)
        for query in queries:
            own = of[query.query_id]
            found += sum(own[d] < min(own[p] for p in query.positives) for d in negatives[query.query_id])
        return found

    assert {len(ids) for ids in negatives.values()} == {3}
    before = right(None)
    nothing = train_encoder(configure(folder, tmp_path / "nothing", kind, None, epochs=2))
    assert {row["loss"] for row in read_rows(tmp_path / "nothing") if "loss" in row} == {0.0}
    learned = train_encoder(configure(folder, tmp_path / "run", kind, mined))
    assert before < 3 * NUMBER - 6
    assert right(nothing.checkpoint) <= before
    assert right(learned.checkpoint) > 3 * NUMBER - 3
