"""The table by kind of question, against a case that is counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.okvqa import kinds
from gemkr.data.records import to_record
from gemkr.fm_index import Span
from gemkr.types import Clue, Hit, Ranking

TEXTS = {"a": "warm tea", "b": "a cow", "c": "a bean", "d": "black coffee"}


def ranking(query_id: str, clues: list[str], docs: str) -> Ranking:
    written = tuple(Clue((1,), text, -float(at), 0.0, Span(0, 1, 1)) for at, text in enumerate(clues))
    return Ranking(query_id, tuple(Hit(doc, 1.0, ()) for doc in docs), written)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    def write(name: str, rows: list[dict]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def query(query_id: str, *answers: str) -> dict:
        return {"query_id": query_id, "question": "what is it", "answers": answers}

    train = write("train.jsonl", [query("1", "tea", "milk"), query("2", "tea"), query("3", "coffee")])
    asked = write(
        "dev.jsonl", [query("x", "tea"), query("y", "tea", "bean"), query("z", "coffee"), query("w")]
    )
    runs = [
        ranking("x", ["cow", "warm tea"], "ba"),
        ranking("y", ["cow"], "bd"),
        ranking("z", ["x"] * 11 + ["coffee"], "d"),
    ]
    run = write("run.jsonl", [to_record(one) for one in [*runs, ranking("w", ["cow"], "b")]])
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("kid,text\n" + "".join(f"{doc},{text}\n" for doc, text in TEXTS.items()))
    return [str(run), "--queries", str(asked), "--train", str(train), "--corpus", str(corpus)]


def test_the_table(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["kinds", *files, "--json", str(tmp_path / "table.json")])
    assert kinds.main() == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert {name: row["questions"] for name, row in table.items()} == {
        "all questions": 3,
        kinds.KNOWN: 2,
        f"{kinds.KNOWN}: in the first 10 clues": 1,
        f"{kinds.KNOWN}: in a later clue": 0,
        f"{kinds.KNOWN}: in no clue": 1,
        kinds.UNKNOWN: 1,
        f"{kinds.UNKNOWN}: in the first 10 clues": 0,
        f"{kinds.UNKNOWN}: in a later clue": 1,
        f"{kinds.UNKNOWN}: in no clue": 0,
    }
    assert table["all questions"] == {
        "questions": 3,
        "P@5": pytest.approx(2 / 15),
        "S@5": 2 / 3,
        "S@10": 2 / 3,
    }
    assert table[f"{kinds.KNOWN}: in the first 10 clues"]["S@5"] == 1.0
    assert table[f"{kinds.KNOWN}: in no clue"]["S@10"] == 0.0


def test_a_missing_file_is_named(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kinds", "absent.jsonl", *files[1:]])
    assert kinds.main() == 1
    assert "absent.jsonl" in capsys.readouterr().err
