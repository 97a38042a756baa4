"""Contrastive training of tiny encoders: sixteen pairs of texts, pictures and both are learned, and a stopped run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_encoder import save_tiny_encoder
from tiny_pictures import WORDS, save_pictures, save_tiny_blip, save_tiny_clip
from tiny_vlm import save_tiny_vlm

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.data.queries import read_queries
from gemkr.errors import CheckpointError, ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.hf.adapters import VISION
from gemkr.models.weights import weights_digest
from gemkr.training.checkpoints.checkpoint import read_checkpoint
from gemkr.training.contrastive.config import ContrastiveConfig
from gemkr.training.contrastive.run import Material, train_encoder
from gemkr.training.loop.log import read_rows

FORMS = ["t", "i", "b"]
"""A text, a picture, both."""
CLIP_FF = {
    "kind": "clip_ff",
    "folder": "clip",
    "heads": 2,
    "head_width": 8,
    "feed_forward": 32,
    "dropout": 0.0,
}
LORA = {"r": 16, "alpha": 32, "dropout": 0.0, "targets": r".*\.(q|k|v|o|gate|up|down)_proj"}
EPOCHS = {"vlm_last": 16, "vlm_lora": 16, "vlm_dora": 16, "blip_sf": 60}
"""Of those that do not learn in 35, or need no more than 16."""
LAMRA = {"template": "lamra", "pool": "before:<emb>"}
ENCODERS = {
    "clip_sf": {"kind": "clip_sf", "folder": "clip"},
    "clip_ff": CLIP_FF,
    "clip_ff_unpadded": {**CLIP_FF, "attend_padding": False},
    "blip_sf": {"kind": "blip_sf", "folder": "blip"},
    "blip_ff": {"kind": "blip_ff", "folder": "blip"},
    "blip_ff_unpadded": {"kind": "blip_ff", "folder": "blip", "attend_padding": False},
    "vlm_last": {"kind": "vlm", "folder": "vlm"},
    "vlm_before": {"kind": "vlm", "folder": "vlm", **LAMRA},
    "vlm_lora": {"kind": "vlm", "folder": "vlm", "adapters": LORA},
    "vlm_dora": {"kind": "vlm", "folder": "vlm", "adapters": {**LORA, "dora": True}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pairs: each query is of one form and its document of another, every pair of forms at least once."""
    folder = tmp_path_factory.mktemp("contrastive")
    save_tiny_clip(folder / "clip")
    save_tiny_blip(folder / "blip", dropout=0.0)
    save_tiny_vlm(folder / "vlm", "qwen2_vl")
    sides = [f"{side}{number}" for number in range(16) for side in "qd"]
    save_pictures(folder / "images", sides)
    queries, documents = [], []
    for number in range(16):
        of_query, of_document = FORMS[number % 3], FORMS[number // 3 % 3]
        words = [WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7)]
        text = " ".join(words)
        queries.append(
            {
                "query_id": f"q{number}", "question": text if of_query != "i" else "",
                "image": f"q{number}" if of_query != "t" else None, "positives": [f"d{number}"],
                "instruction": "find a photo" if number % 2 else None,
            }
        )  # fmt: skip
        documents.append(
            {
                "id": f"d{number}", "text": " ".join(words[::-1]) + " tree" if of_document != "i" else "",
                "image": f"d{number}" if of_document != "t" else None,
            }
        )  # fmt: skip
    for name, rows in (("queries", queries), ("corpus", documents)):
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def section_of(folder: Path, name: str, **changes: object) -> dict:
    section = ENCODERS[name] | changes
    return section | {"folder": str(folder / section["folder"])}


def configure(folder: Path, output: Path, name: str, **changes: object) -> ContrastiveConfig:
    values = {
        "encoder": section_of(folder, name),
        "corpus": str(folder / "corpus.jsonl"),
        "queries": str(folder / "queries.jsonl"),
        "images": str(folder / "images"),
        "output": str(output),
        "loss": {"temperature": 0.05},
        "optimizer": {"lr": 5e-3, "min_lr": 1e-3, "warmup_steps": 5, "weight_decay": 0.0},
        "batch_size": 16, "epochs": 35, "workers": 0, "save_every": 1000, "log_every": 5,
    }  # fmt: skip
    return from_mapping(values | changes, ContrastiveConfig, "test")


def hits_at_1(folder: Path, encoder: dict, tmp_path: Path) -> tuple[float, float]:
    """The share of queries whose own document comes first, retrieved as a user would; and of documents whose own query does."""
    values = {
        "queries": str(folder / "queries.jsonl"), "corpus": str(folder / "corpus.jsonl"), "images": str(folder / "images"),
        "output": str(tmp_path / "eval"), "retrievers": {"own": {"kind": "dense", "encoder": encoder, "dtype": "float32"}},
    }  # fmt: skip
    sources = from_mapping(values, EvalConfig, "test").sources()
    retriever, queries = sources.retriever("own"), list(sources.queries)
    rankings = retriever.retrieve(queries, 1)
    found = sum(r.hits[0].doc_id == q.positives[0] for r, q in zip(rankings, queries, strict=True)) / 16
    documents = [sources.documents[number] for number in range(16)]
    scores = retriever.encoder.encode_documents(documents) @ retriever.encoder.encode_queries(queries).T
    firsts = [queries[number].positives[0] for number in scores.argmax(axis=1)]
    return found, sum(d.doc_id == first for d, first in zip(documents, firsts, strict=True)) / 16


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_learns_sixteen_pairs(folder: Path, tmp_path: Path, name: str) -> None:
    """Retrieved in both directions."""
    before = hits_at_1(folder, section_of(folder, name), tmp_path)
    loss = {"temperature": 0.05, "symmetric": True}
    config = configure(folder, tmp_path / "run", name, epochs=EPOCHS.get(name, 35), loss=loss)
    outcome = train_encoder(config)
    assert max(before) < 0.5
    learned = read_checkpoint(outcome.checkpoint).weights
    assert not name.startswith("vlm") or not [n for n in learned if VISION.search(n)]
    trained = section_of(folder, name, checkpoint=str(outcome.checkpoint))
    assert hits_at_1(folder, trained, tmp_path) == (1.0, 1.0)


def test_a_text_encoder_learns_pairs_of_texts(tmp_path: Path) -> None:
    """A folder of sentence-transformers, with instructions; its network gives the vectors that the library gives. Pictures of queries,
    which it does not read, need not be there."""
    save_tiny_encoder(tmp_path / "encoder", WORDS)
    queries, documents = [], []
    for number in range(16):
        words = " ".join(WORDS[(number * step + 3) % len(WORDS)] for step in (1, 5, 7))
        queries.append({"query_id": f"q{number}", "question": words, "positives": [f"d{number}"]})
        documents.append(
            {
                "id": f"d{number}",
                "text": " ".join(WORDS[(number * step + 8) % len(WORDS)] for step in (5, 11)),
            }
        )
    queries[3]["instruction"] = "find a photo"
    queries[4]["image"] = "elsewhere"
    for name, rows in (("queries", queries), ("corpus", documents)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    section = {"kind": "sentence_transformers", "folder": str(tmp_path / "encoder")}
    loss = {"temperature": 0.05, "symmetric": True}
    changes = {"encoder": section, "images": None, "epochs": 80, "loss": loss}
    config = configure(tmp_path, tmp_path / "run", "clip_sf", **changes)
    before = config.encoder.build(None)
    items = list(read_queries(tmp_path / "queries.jsonl"))
    with torch.no_grad():
        vectors = before.network(before.reader.queries(items))
    np.testing.assert_allclose(vectors.numpy(), before.encode_queries(items), atol=1e-5)
    outcome = train_encoder(config)
    (tmp_path / "images").mkdir()
    assert hits_at_1(tmp_path, section, tmp_path)[0] < 0.5
    trained = section | {"checkpoint": str(outcome.checkpoint)}
    assert hits_at_1(tmp_path, trained, tmp_path) == (1.0, 1.0)


def figures(output: Path) -> list[tuple[float, float]]:
    return [(row["loss"], row["grad_norm"]) for row in read_rows(output)]


def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    """To the last digit, with dropout, chunks, accumulation and a learned temperature."""
    changes = {
        "encoder": section_of(folder, "clip_ff", dropout=0.3), "chunk_size": 3, "batch_size": 5, "epochs": 3, "log_every": 1,
        "gradient_accumulation": 2, "save_every": 2, "keep_checkpoints": 9,
        "loss": {"temperature": 0.07, "learnable": True, "symmetric": True},
    }  # fmt: skip
    whole = configure(folder, tmp_path / "whole", "clip_ff", **changes)
    outcome = train_encoder(whole)
    assert outcome.step == 6
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for name in ("final", "step-000004", "step-000006"):
        shutil.rmtree(tmp_path / "part" / name)
    part = configure(folder, tmp_path / "part", "clip_ff", **changes)
    resumed = train_encoder(part, resume="auto")
    assert figures(tmp_path / "part") == figures(tmp_path / "whole")
    first, second = (read_checkpoint(done.checkpoint).weights for done in (outcome, resumed))
    assert "log_scale" in first
    assert weights_digest(first) == weights_digest(second)
    other = configure(folder, tmp_path / "part", "clip_ff", **changes | {"chunk_size": 4})
    with pytest.raises(CheckpointError, match=r"chunk_size was 3, is 4; restore that"):
        train_encoder(other, resume=str(tmp_path / "part" / "step-000002"))


def test_one_batch_of_chunks_learns_what_one_batch_learns(folder: Path, tmp_path: Path) -> None:
    """Without dropout, chunks change nothing but rounding."""
    runs = []
    for size in (None, 5):
        config = configure(folder, tmp_path / f"run{size}", "clip_sf", chunk_size=size, epochs=3, log_every=1)
        train_encoder(config)
        runs.append(figures(tmp_path / f"run{size}"))
    for (loss, norm), (other_loss, other_norm) in zip(*runs, strict=True):
        assert loss == pytest.approx(other_loss, rel=1e-4)
        assert norm == pytest.approx(other_norm, rel=1e-3)


def test_half_precision_is_for_what_does_not_learn(folder: Path, tmp_path: Path) -> None:
    """A merged model is kept as its settings say; where all of its language model learns, or learned, that is in fp32."""
    half = section_of(folder, "vlm_last", precision="bf16")
    config = configure(folder, tmp_path / "run", "vlm_last", encoder=half, epochs=1)
    network = config.encoder.build(Material(None)).network
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    outcome = train_encoder(config)
    learned = read_checkpoint(outcome.checkpoint).weights
    assert {weight.dtype for weight in learned.values()} == {torch.float32}
    trained = configure(
        folder, tmp_path / "next", "vlm_last", encoder=half | {"checkpoint": str(outcome.checkpoint)}
    )
    state = trained.encoder.build(Material(None)).network.state_dict()
    for name, weight in learned.items():
        assert torch.equal(state[name.removeprefix("network.")], weight)
    assert {state[name].dtype for name in state if VISION.search(name)} == {torch.bfloat16}


def test_training_and_retrieval_by_commands(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gemkr train` with an encoder, `gemkr embed`, `gemkr eval`, with hard negatives of a BM25 run and pictures as documents."""
    run = "".join(f"q{i} Q0 d{(i + j) % 16} {j} {10 - j} bm25\n" for i in range(16) for j in range(1, 5))
    (tmp_path / "bm25.trec").write_text(run)
    encoder = f"{{kind: clip_sf, folder: {folder}/clip"
    (tmp_path / "train.yaml").write_text(
        f"encoder: {encoder}}}\ncorpus: {folder}/corpus.jsonl\nqueries: {folder}/queries.jsonl\nimages: {folder}/images\n"
        "output: run\nnegatives: {run: bm25.trec, per_query: 2, skip: 1}\nloss: {temperature: 0.07, learnable: true}\n"
        "optimizer: {lr: 5.0e-3, warmup_steps: 5}\nbatch_size: 8\nepochs: 25\nworkers: 0\nchunk_size: 6\n"
    )
    (tmp_path / "eval.yaml").write_text(
        f"corpus: {folder}/corpus.jsonl\nqueries: {folder}/queries.jsonl\nimages: {folder}/images\noutput: eval\nmetrics: [S@1]\n"
        f"retrievers:\n  own: {{kind: dense, encoder: {encoder}, checkpoint: run/final}}, vectors: vectors, dtype: int8}}\n"
    )
    assert main(["train", str(tmp_path / "train.yaml")]) == 0
    assert capsys.readouterr().out.strip().endswith("run/final")
    assert main(["embed", str(tmp_path / "eval.yaml"), "own"]) == 0
    assert "16 documents encoded" in capsys.readouterr().out
    assert main(["eval", str(tmp_path / "eval.yaml")]) == 0
    capsys.readouterr()
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["rows"]["own"]["S@1"] == 1.0
    monkeypatch.chdir(tmp_path)
    picture = str(folder / "images" / "q3.png")
    assert main(["ask", "eval.yaml", "a", "--picture", picture, "-k", "2"]) == 0
    assert "2. d" in capsys.readouterr().out
    assert main(["settings", "contrastive"]) == 0
    out = capsys.readouterr().out
    assert "[encoder.vlm]" in out
    assert "negatives.per_query" in out or "[negatives]" in out


def test_what_cannot_be_trained(folder: Path, tmp_path: Path) -> None:
    def fails(error: type, message: str, **changes: object) -> None:
        with pytest.raises(error, match=message):
            train_encoder(configure(folder, tmp_path / "run", "clip_sf", **changes))

    fails(
        DataError,
        "the query 'q1' has the picture 'q1' and the configuration no images; set images",
        images=None,
    )
    (tmp_path / "empty").mkdir()
    fails(DataError, "the picture 'q1' of query 'q1' is not in .*; add it", images=str(tmp_path / "empty"))
    fails(
        ConfigError,
        "of the kind 'gemkr.testing:WordEncoder' has no network and reader",
        encoder="gemkr.testing:WordEncoder",
    )


def test_checkpoints_that_belong_elsewhere(folder: Path, tmp_path: Path) -> None:
    """An adapted encoder's is refused over other frozen weights, and by an encoder without adapters."""
    done = train_encoder(configure(folder, tmp_path / "run", "vlm_lora", epochs=1))
    checkpoint = str(done.checkpoint)
    with pytest.raises(CheckpointError, match="does not fit this encoder: it lacks"):
        hits_at_1(folder, section_of(folder, "vlm_last", checkpoint=checkpoint), tmp_path)
    other = tmp_path / "other"
    shutil.copytree(folder / "vlm", other)
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if "visual" in name and name.endswith("weight"))
    save_file(weights | {name: weights[name] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    section = section_of(folder, "vlm_lora", checkpoint=checkpoint) | {"folder": str(other)}
    with pytest.raises(CheckpointError, match=r"was trained on the encoder .*; set the encoder's folder"):
        hits_at_1(folder, section, tmp_path)
