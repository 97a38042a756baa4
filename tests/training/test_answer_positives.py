"""Training from answers alone: positives mined from BM25's rankings of the embedded sample teach a tiny encoder to find passages that
hold an answer."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from tiny_encoder import save_tiny_encoder

from gemkr.cli import main
from gemkr.data.queries import read_queries
from gemkr.data.trec import read_run
from gemkr.sample.corpus import corpus_csv, documents
from gemkr.sample.facts import facts, in_prose
from gemkr.sample.questions import word_question
from gemkr.training.loop.log import read_rows

EVALUATION = """\
corpus: corpus.csv
queries: train.jsonl
output: eval
match: word
metrics: [S@1, S@5]
retrievers:
  tuned: {kind: dense, encoder: {kind: sentence_transformers, folder: encoder, checkpoint: run/final}, dtype: float32}
  untrained: {kind: dense, encoder: {kind: sentence_transformers, folder: encoder}, dtype: float32}
  bm25: bm25
evaluate: [tuned, untrained]
"""
TRAINING = """\
encoder: {kind: sentence_transformers, folder: encoder}
corpus: corpus.csv
queries: positives.jsonl
negatives: {run: negatives.trec}
output: run
loss: {temperature: 0.05}
optimizer: {lr: 1.0e-2, min_lr: 1.0e-3, warmup_steps: 5, weight_decay: 0.0}
batch_size: 32
epochs: 12
workers: 0
log_every: 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample's corpus, every fifth fact of it asked about in two wordings, and a question that no passage answers."""
    monkeypatch.chdir(tmp_path)
    Path("corpus.csv").write_text(corpus_csv())
    asked = []
    for name in ("train", "reworded"):
        rng = random.Random(name)
        rows = [
            {"query_id": fact.doc_id, "question": word_question(fact.kind, in_prose(fact.country), rng), "answers": [fact.name]}
            for fact in facts()[::5]
        ]  # fmt: skip
        rows.insert(3, {"query_id": "lost", "question": "Who ruled Atlantis?", "answers": ["Atlas"]})
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        asked += [row["question"] for row in rows]
    texts = " ".join([*documents().values(), *asked]).lower()
    save_tiny_encoder(tmp_path / "encoder", re.findall(r"\w+|[^\w\s]", texts), positions=64)
    Path("eval.yaml").write_text(EVALUATION)
    Path("train.yaml").write_text(TRAINING)
    return tmp_path


def test_answers_alone_teach_an_encoder(folder: Path, capsys: pytest.CaptureFixture) -> None:
    command = [
        "mine-negatives",
        "eval.yaml",
        "bm25",
        "--depth",
        "20",
        "--per-query",
        "4",
        "-o",
        "negatives.trec",
    ]
    command += ["--positives", "positives.jsonl", "--positives-per-query", "2"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    asked, learned = (list(read_queries(f"{name}.jsonl")) for name in ("train", "positives"))
    unfound = {query.query_id for query in asked} - {query.query_id for query in learned}
    assert "lost" in unfound
    assert (
        f"{len(unfound)} of 102 queries have no positive and no hit with an answer, and are left out" in err
    )
    assert f"{len(learned)} of 102 queries with positives -> positives.jsonl" in out
    negatives = read_run("negatives.trec")
    for query in learned:
        assert 1 <= len(query.positives) <= 2
        assert all(query.answers[0].lower() in documents()[doc_id].lower() for doc_id in query.positives)
        away = [documents()[hit.doc_id] for hit in negatives.get(query.query_id, ())]
        assert not any(re.search(rf"\b{re.escape(query.answers[0])}\b", text) for text in away)
    mined = Path("positives.jsonl").read_bytes(), Path("negatives.trec").read_bytes()
    assert main([*command, "--restart"]) == 0
    assert (Path("positives.jsonl").read_bytes(), Path("negatives.trec").read_bytes()) == mined

    assert main(["train", "train.yaml"]) == 0
    losses = [row["loss"] for row in read_rows(Path("run"))]
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert main(["train", "train.yaml", "output=again"]) == 0
    assert [row["loss"] for row in read_rows(Path("again"))] == losses
    assert main(["eval", "eval.yaml", "queries=reworded.jsonl"]) == 0
    rows = json.loads(Path("eval/metrics.json").read_text())["rows"]
    capsys.readouterr()
    assert rows["tuned"]["S@1"] > rows["untrained"]["S@1"] + 0.15
    assert rows["tuned"]["S@5"] > rows["untrained"]["S@5"] + 0.15
