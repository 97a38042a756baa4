"""`gemkr collection` from making to compacting, and its refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy_text import train_sentencepiece, write_csv

from gemkr.cli import main
from gemkr.collection.collection import Collection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train_sentencepiece(tmp_path / "t.model")
    write_csv(tmp_path / "c.csv")
    (tmp_path / "more.jsonl").write_text('{"_id": "x", "text": "a pony"}\n{"_id": "d0", "text": "two"}\n')
    command = ["collection", "create", str(tmp_path / "c"), str(tmp_path / "c.csv")]
    assert main([*command, "--tokenizer", str(tmp_path / "t.model"), "--threads", "1"]) == 0
    return tmp_path


def test_a_life(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "gone").write_text("d1\nd2\n")
    c = str(folder / "c")
    for command in (
        ["update", c, str(folder / "more.jsonl"), "--threads", "1"],
        ["delete", c, "d3", "nope", "--from", str(folder / "gone"), "--ignore-missing"],
        ["compact", c, "--memory-limit", "1"],
        ["verify", c],
        ["info", c],
    ):
        assert main(["collection", *command]) == 0
    out = capsys.readouterr().out
    assert "all checksums agree (6 documents" in out
    assert "documents      6\nsegments       1 and 1 negative" in out
    assert "negative segments      0" in out
    assert [d.doc_id for d in Collection.open(c).documents] == ["d4", "d5", "d6", "d7", "x", "d0"]


def test_refusals_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    c = str(folder / "c")
    for command, words in [
        (["add", c, str(folder / "more.jsonl")], "'d0' is already in the collection"),
        (["delete", c, "d1", "nope"], "holds no document 'nope', nothing was deleted"),
        (["delete", c, "--from", str(folder / "none")], "cannot be read"),
        (
            ["delete", c],
            "no document id is given; name ids after the collection, or a file of them with --from",
        ),
        (["delete", c, "--", "-dash"], "holds no document '-dash'"),
        (["info", str(folder)], "is no collection"),
        (["info", str(folder / "c.csv")], "is no collection"),
        (["create", c, "--tokenizer", str(folder / "t.model")], "is a collection already"),
    ]:
        assert main(["collection", *command]) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gemkr:")]
        assert words in line


def test_commands_on_index_files_name_a_collection(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    c, tokenizer, queries = str(folder / "c"), str(folder / "t.model"), folder / "q.jsonl"
    queries.write_text('{"query_id": "1", "question": "pony?", "answers": ["pony"]}\n')
    mine = [
        "mine",
        str(queries),
        "--corpus",
        c,
        "--index",
        c,
        "--tokenizer",
        tokenizer,
        "-o",
        str(folder / "o"),
    ]
    for command, words in [
        (["index", "info", c], "gemkr collection info describes it"),
        (["index", "verify", c], "gemkr collection verify checks it"),
        (["index", "query", c, "a", "--tokenizer", tokenizer], "gemkr ask searches it"),
        (mine, "mine over an index of a corpus file (gemkr index build)"),
    ]:
        assert main(command) == 1
        assert f"{c} is a collection, not an index file; {words}" in capsys.readouterr().err
    assert not (folder / "o").exists()
