"""The quickstart's small BERT knows every word of the sample, and is the same one every time."""

from __future__ import annotations

import json
from pathlib import Path

from gemkr.models.flmr.encoder import PreFLMREncoder
from gemkr.sample.small_bert import texts_of, write_small_bert
from gemkr.types import Document, Query


class Bare:
    pictures = None


def test_it_reads_passages_and_questions(tmp_path: Path) -> None:
    (tmp_path / "corpus.csv").write_text('kid,text\na,"The capital of Albania is Tirana."\n')
    rows = [{"query_id": "q", "question": "Which city is the capital?"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prints = []
    for name in ("one", "two"):
        assert write_small_bert(tmp_path / name, texts_of(tmp_path)) == 11
        config = PreFLMREncoder.Config(text=str(tmp_path / name), query_tokens=12, document_tokens=20)
        encoder = PreFLMREncoder.from_config(config, Bare())
        prints.append(encoder.fingerprint)
    assert prints[0] == prints[1]
    assert len(encoder.encode_documents([Document("d", "The capital of Tirana.")]).values) == 3 + 4
    tokens = [vector.text for vector in encoder.describe_query(Query("q", "Which city, Tirana?"))]
    assert tokens[2:7] == ["which", "city", "[UNK]", "tirana", "?"]
