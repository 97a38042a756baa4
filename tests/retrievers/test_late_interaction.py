"""Late interaction through configurations: ranked by MaxSim, from memory and from a folder, filtered, resumed, refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from token_twins import maxsim

from gemkr.cli import main
from gemkr.config.files import from_mapping
from gemkr.errors import DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.interfaces import TokenVectors
from gemkr.retrievers import embedding
from gemkr.retrievers.embedding import only_writer
from gemkr.retrievers.late_interaction import LateInteractionRetriever
from gemkr.testing import WordTokenEncoder, toy_corpus
from gemkr.types import Document, Query, Ranking

WORDS = "gemkr.testing:WordTokenEncoder"
QUESTIONS = {
    "q0": ("Which is the capital of Japan?", "d2"),
    "q1": ("Which animal hunts at night and sleeps in the day?", "d10"),
    "q2": ("What is Peru known for?", "d7"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"id": d.doc_id, "text": d.text} for d in toy_corpus()]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"query_id": q, "question": t, "positives": [gold]} for q, (t, gold) in QUESTIONS.items()]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    return tmp_path


def configure(folder: Path, section: dict) -> EvalConfig:
    files = {"corpus": "corpus.jsonl", "queries": "queries.jsonl", "output": "runs"}
    values = {key: str(folder / name) for key, name in files.items()}
    return from_mapping(
        values | {"retrievers": {"words": {"kind": "late_interaction", **section}}, "metrics": ["S@1"]},
        EvalConfig,
        "test",
    )


def rank(config: EvalConfig, k: int = 12, **settings: object) -> list[Ranking]:
    sources = config.sources()
    return list(sources.retriever("words").retrieve(sources.queries, k, **settings))


def test_documents_are_ranked_by_maxsim(folder: Path) -> None:
    config = configure(folder, {"encoder": WORDS, "batch_size": 2})
    encoder = WordTokenEncoder()
    expected = maxsim(
        encoder.encode_queries([Query(q, text) for q, (text, _) in QUESTIONS.items()]),
        encoder.encode_documents(toy_corpus()),
    )
    for ranking, scores in zip(rank(config), expected, strict=True):
        assert [hit.doc_id for hit in ranking.hits] == [f"d{i}" for i in np.argsort(-scores, kind="stable")]
        np.testing.assert_allclose([hit.score for hit in ranking.hits], np.sort(scores)[::-1], atol=1e-3)
        assert ranking.hits[0].doc_id == QUESTIONS[ranking.query_id][1]
    allowed = {"d8", "d9", "d10", "d11"}
    for whole, some in zip(rank(config), rank(config, allowed=allowed), strict=True):
        assert some.hits == tuple(hit for hit in whole.hits if hit.doc_id in allowed)


def test_tokens_in_a_folder_give_the_same_ranking(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    section = {"encoder": {"kind": WORDS, "width": 32}}
    memory = rank(configure(folder, section))
    stored = configure(folder, {**section, "tokens": str(folder / "tokens")})
    with pytest.raises(DataError, match="are not there; make them with gemkr embed CONFIG NAME"):
        rank(stored)
    monkeypatch.setattr(embedding, "BLOCK", 5)
    encode = WordTokenEncoder.encode_documents

    def interrupted(self: WordTokenEncoder, documents: list[Document]):
        if documents[0].doc_id == "d5":
            raise KeyboardInterrupt
        return encode(self, documents)

    monkeypatch.setattr(WordTokenEncoder, "encode_documents", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LateInteractionRetriever.embed(stored.retrievers["words"].config, stored.sources(), progress=False)
    monkeypatch.setattr(WordTokenEncoder, "encode_documents", encode)
    with pytest.raises(DataError, match="are not finished"):
        rank(stored)
    (folder / "own.yaml").write_text(
        "corpus: corpus.jsonl\nqueries: queries.jsonl\nretrievers:\n  bare: {kind: late_interaction, encoder: "
        f"{WORDS}}}\n  words: {{kind: late_interaction, encoder: {{kind: {WORDS}, width: 32}}, tokens: tokens}}\n"
    )
    assert main(["embed", str(folder / "own.yaml"), "words"]) == 0
    said = capsys.readouterr()
    assert "7 documents encoded" in said.out
    assert "5 were there already" in said.out
    assert "12/12" in said.err  # the bar goes on from 5, with an estimate of what is left
    assert rank(stored) == memory
    assert main(["embed", str(folder / "own.yaml"), "bare"]) == 1
    assert "retrievers.bare.tokens is missing; name the folder" in capsys.readouterr().err
    other = {"encoder": {"kind": WORDS, "width": 32, "seed": 1}, "tokens": str(folder / "tokens")}
    with pytest.raises(
        DataError,
        match=r"made with another encoder, .*; delete .*tokens, or set tokens to another folder, then make them with gemkr embed",
    ):
        rank(configure(folder, other))


def test_one_process_at_a_time_writes_the_vectors(folder: Path) -> None:
    stored = configure(folder, {"encoder": WORDS, "tokens": str(folder / "tokens")})
    with only_writer(folder / "tokens"), pytest.raises(DataError, match="another process is writing the vec"):
        LateInteractionRetriever.embed(stored.retrievers["words"].config, stored.sources(), progress=False)
    assert not (folder / "tokens.part").exists()
    LateInteractionRetriever.embed(stored.retrievers["words"].config, stored.sources(), progress=False)
    names = sorted(path.name for path in (folder / "tokens").iterdir())
    assert names == ["manifest.json", "offsets.i64", "values.f16"]
    with only_writer(folder / "tokens"), only_writer(folder / "tokens"):
        assert not (folder / "tokens.part").exists()


def test_numbers_that_are_not_finite_are_refused_in_memory_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = WordTokenEncoder.encode_documents

    def odd(self: WordTokenEncoder, documents: list[Document]) -> TokenVectors:
        found = encode(self, documents)
        found.values[2, 3] = np.nan
        return found

    monkeypatch.setattr(WordTokenEncoder, "encode_documents", odd)
    for index in ("exact", {"kind": "centroid", "lists": 2}):
        with pytest.raises(DataError, match="holds a number that float16 cannot"):
            rank(configure(folder, {"encoder": WORDS, "index": index}))


def test_a_document_without_a_token_is_named_and_never_found(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write(json.dumps({"id": "marks", "text": "?!"}) + "\n")
    stored = configure(folder, {"encoder": WORDS, "tokens": str(folder / "tokens")})
    with caplog.at_level(logging.WARNING):
        done = LateInteractionRetriever.embed(
            stored.retrievers["words"].config, stored.sources(), progress=False
        )
    assert done.empty == ("marks",)
    assert (
        "1 documents have no token left to score and are never found: marks; give them a text" in caplog.text
    )
    assert [len(ranking.hits) for ranking in rank(stored, k=20)] == [12] * 3
    assert all(hit.doc_id != "marks" for ranking in rank(stored, k=20) for hit in ranking.hits)
