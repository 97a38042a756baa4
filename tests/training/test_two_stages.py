"""LamRA-Ret's two stages in miniature: sentence pairs of NLI, a merge, and pictures and texts of M-BEIR over the merged model."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_pictures import WORDS, save_pictures
from tiny_vlm import save_tiny_vlm

from gemkr.cli import main
from gemkr.config.files import load_part
from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries
from gemkr.models.embedder import Embedder
from gemkr.training.contrastive.published import EncoderChoice
from gemkr.training.contrastive.run import Material
from gemkr.training.loop.log import read_rows
from gemkr.vision.pictures import PictureFolder

PAIRS = 8
LAMRA = {"kind": "vlm", "template": "lamra", "pool": "before:<emb>"}
LOOP = {
    "loss": {"temperature": 0.05}, "batch_size": PAIRS, "epochs": 4, "workers": 0, "log_every": 1,
    "optimizer": {"lr": 5e-3, "min_lr": 1e-3, "warmup_steps": 1, "weight_decay": 0.0},
}  # fmt: skip
FIRST = LAMRA | {"folder": "vlm", "adapters": {"r": 2, "alpha": 4, "dropout": 0.0}}
SECOND = LAMRA | {"folder": "merged", "adapters": {"r": 4, "alpha": 8, "dropout": 0.0}}


def sentence(number: int, *steps: int) -> str:
    return " ".join(WORDS[(number * step + 3) % len(WORDS)] for step in steps)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model, an NLI file, and queries and candidates of M-BEIR: texts, pictures, both."""
    monkeypatch.chdir(tmp_path)
    save_tiny_vlm(tmp_path / "vlm", "qwen2_vl")
    save_pictures(tmp_path / "images", [f"{side}{n}" for n in range(PAIRS) for side in "qd"])
    with open("nli_for_simcse.csv", "w", newline="") as stream:
        rows = [[sentence(n, 1, 5, 7), sentence(n, 5, 11), sentence(n, 2, 9)] for n in range(PAIRS)]
        csv.writer(stream).writerows([["sent0", "sent1", "hard_neg"], *rows])
    queries, candidates = [], []
    for n in range(PAIRS):
        asks, finds = (("text", "image", "image,text")[(n + more) % 3] for more in (0, 1))
        queries.append(
            {
                "qid": f"9:{n}", "query_modality": asks, "query_txt": sentence(n, 1, 7) if "text" in asks else None,
                "query_img_path": f"q{n}.png" if "image" in asks else None, "pos_cand_list": [f"9:{n}"],
            }
        )  # fmt: skip
        candidates.append(
            {
                "did": f"9:{n}", "modality": finds, "txt": sentence(n, 7, 5) if "text" in finds else None,
                "img_path": f"d{n}.png" if "image" in finds else None,
            }
        )  # fmt: skip
    for name, lines in (("queries", queries), ("candidates", candidates)):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    nli = {"corpus": "nli_corpus.jsonl", "queries": "nli.jsonl", "negatives": {"run": "nli.trec"}}
    mbeir = {"corpus": "candidates.jsonl", "queries": "queries.jsonl", "images": "images"}
    for name, encoder, data in (("first", FIRST, nli), ("second", SECOND, mbeir)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"encoder": encoder, "output": name, **data, **LOOP}))
    return tmp_path


def build(stage: str, *overrides: str) -> Embedder:
    choice = load_part(f"{stage}.yaml", "encoder", EncoderChoice, list(overrides))
    return choice.encoder.build(Material(PictureFolder("images")))


def vectors(encoder: Embedder) -> tuple[np.ndarray, np.ndarray]:
    """Of M-BEIR's queries and candidates."""
    documents = DocumentStore.open("candidates.jsonl")
    items = [documents[number] for number in range(len(documents))]
    return encoder.encode_queries(list(read_queries("queries.jsonl"))), encoder.encode_documents(items)


def test_the_second_stage_begins_where_the_first_ended(folder: Path) -> None:
    """Vectors before its first step, and the loss of that step, are those of the first stage, merged; and both stages learn."""
    command = ["queries", "nli_for_simcse.csv", "-o", "nli.jsonl", "--corpus", "nli_corpus.jsonl"]
    assert main([*command, "--negatives", "nli.trec"]) == 0
    assert main(["train", "first.yaml"]) == 0
    losses = [row["loss"] for row in read_rows(Path("first"))]
    assert losses[-1] < 0.9 * losses[0]
    learned = vectors(build("first", "encoder.checkpoint=first/final"))
    untrained = vectors(build("first"))
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(learned, untrained, strict=True))
    assert main(["merge-adapters", "first.yaml", "encoder.checkpoint=first/final", "-o", "merged"]) == 0
    begun, merged = vectors(build("second")), vectors(build("second", "encoder.adapters=null"))
    for first, second, plain in zip(learned, begun, merged, strict=True):
        np.testing.assert_array_equal(second, plain)
        np.testing.assert_allclose(second, first, atol=1e-5)
    assert main(["train", "second.yaml"]) == 0
    losses = [row["loss"] for row in read_rows(Path("second"))]
    scores = learned[0] @ learned[1].T / 0.05
    twin = np.mean([np.log(np.exp(row - row[n]).sum()) for n, row in enumerate(scores)])
    assert losses[0] == pytest.approx(twin, rel=1e-3)
    assert losses[-1] < 0.9 * losses[0]
    ended = vectors(build("second", "encoder.checkpoint=second/final"))
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(ended, begun, strict=True))
