"""UniRAG's export: candidates and their complements stand in step, and a complement is of the other kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from gemkr.cli import main

CORPUS = [
    {"did": "1:1", "txt": "kite", "modality": "text"},
    {"did": "1:2", "img_path": "kite"},
    {"did": "1:3", "txt": "a drum", "img_path": "drum"},
    {"did": "1:4", "img_path": "drum"},
    {"did": "1:5", "txt": "drum"},
    {"did": "1:6", "txt": "kite kite drum"},
]
TSV = "query\tcand\tset\tid\tprompt\ntext\timage\tcoco\t9\tshow\nimage\ttext\tcoco\t9\tsay\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    queries = [
        {"query_id": "q1", "question": "what flies?", "image": "kite", "positives": ["1:1"]},
        {"query_id": "q2", "question": "drum"},
        {"query_id": "q3", "question": "none"},
    ]
    Path("queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    hits = {"q1": ["1:1", "1:3", "1:2", "1:4"], "q2": ["1:4", "1:2"], "q3": ["1:1"]}
    lines = [f"{q} Q0 {doc} {n} {9 - n} x\n" for q, docs in hits.items() for n, doc in enumerate(docs)]
    Path("run.trec").write_text("".join(lines))
    Path("instructions.tsv").write_text(TSV)
    values = {
        "corpus": "corpus.jsonl", "queries": "queries.jsonl", "output": "out",
        "retrievers": {"words": {"kind": "dense", "encoder": "gemkr.testing:WordEncoder", "dtype": "float32"}},
    }  # fmt: skip
    Path("mine.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def export(*words: str) -> list[dict]:
    assert main(["export-unirag", "mine.yaml", "run.trec", "-o", "rag.jsonl", *words]) == 0
    return [json.loads(line) for line in Path("rag.jsonl").read_text().splitlines()]


def test_complements_stand_in_step(folder: Path, capsys: pytest.CaptureFixture) -> None:
    """The picture of the user's own query is no complement, nor is the user's own text; what holds both kinds has none."""
    first, second, third = export("--complements", "words", "-k", "4")
    assert "rag.jsonl: 3 queries, 6 complements" in capsys.readouterr().out
    assert first["query"]["qid"] == "q1"
    assert first["query"]["query_modality"] == "image,text"
    assert [row["did"] for row in first["candidates"]] == ["1:1", "1:3", "1:2", "1:4"]
    assert [row and row["did"] for row in first["complement_candidates"]] == ["1:4", None, "1:1", "1:5"]
    assert first["candidates"][1] == {
        "did": "1:3",
        "txt": "a drum",
        "img_path": "drum",
        "modality": "image,text",
    }
    assert [row["did"] for row in second["complement_candidates"]] == ["1:6", "1:1"]
    assert [row["did"] for row in third["complement_candidates"]] == ["1:2"]
    for row in (first, second):
        for candidate, other in zip(row["candidates"], row["complement_candidates"], strict=True):
            assert other is None or {candidate["modality"], other["modality"]} == {"text", "image"}


def test_without_complements(folder: Path) -> None:
    rows = export("-k", "1")
    assert [len(row["candidates"]) for row in rows] == [1, 1, 1]
    assert "complement_candidates" not in rows[0]


def test_instructions_of_captions_are_read(folder: Path) -> None:
    """They are words like others to this encoder, so that they move what is nearest."""
    Path("instructions.tsv").write_text(TSV.replace("show", "drum drum drum"))
    *_, third = export("--complements", "words", "--instructions", "instructions.tsv", "-k", "1")
    assert third["complement_candidates"][0]["did"] == "1:4"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--complements", "clip"], "no retriever is called 'clip'; there are words"),
        (["queries=other.jsonl"], "holds none of the 1 queries; name a run over these"),
        (["corpus=small.jsonl"], "names the document '1:3', which the corpus does not hold"),
        (["--complements", "words", "--instructions", "short.tsv"], "for which short.tsv has no instruction"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture, words: list[str], sentence: str
) -> None:
    Path("other.jsonl").write_text('{"query_id": "x", "question": "x"}\n')
    Path("small.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS[:2]))
    Path("short.tsv").write_text(
        "".join(TSV.splitlines(keepends=True)[:1]) + "text\timage\tfashion\t1\tshow\n"
    )
    assert main(["export-unirag", "mine.yaml", "run.trec", "-o", "rag.jsonl", *words]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert not Path("rag.jsonl").exists()
