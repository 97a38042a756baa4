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
    (folder / "gone").write_text("\ufeffd1\nd2\n", encoding="utf-8")  # as an editor on Windows saves it
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
    c, tokenizer = str(folder / "c"), str(folder / "t.model")
    for command, words in [
        (["index", "info", c], "gemkr collection info describes it"),
        (["index", "verify", c], "gemkr collection verify checks it"),
        (["index", "query", c, "a", "--tokenizer", tokenizer], "gemkr ask searches it"),
    ]:
        assert main(command) == 1
        assert f"{c} is a collection, not an index file; {words}" in capsys.readouterr().err


def test_mining_a_collection_takes_nothing_but_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bm25s")
    c, corpus, tokenizer, index = (str(folder / name) for name in ("c", "c.csv", "t.model", "c.fmi"))
    queries, clues = folder / "q.jsonl", folder / "o.jsonl"
    queries.write_text('{"query_id": "1", "question": "pony?", "answers": ["pony", "Tokyo"]}\n')
    mine = ["mine", str(queries), "-o", str(clues), "--corpus"]
    assert main(["index", "build", corpus, "--tokenizer", tokenizer, "-o", index]) == 0
    assert main([*mine, corpus, "--index", index, "--tokenizer", tokenizer]) == 0
    expected = clues.read_bytes()
    for given in ([], ["--index", c], ["--index", c, "--tokenizer", tokenizer]):
        clues.unlink()
        assert main([*mine, c, *given]) == 0
        assert clues.read_bytes() == expected
    capsys.readouterr()
    other = str(train_sentencepiece(folder / "other.model", vocab_size=400))
    for given, words in [
        ([c, "--index", index], f"{c} is a collection, which is its own index; leave {index} out"),
        ([c, "--tokenizer", other], "is not the one that the collection"),
        ([corpus], "is no collection; name its index (--index) and its tokenizer (--tokenizer)"),
        ([corpus, "--index", index], "is no collection; name its index (--index) and its tokenizer"),
        (
            [corpus, "--index", c, "--tokenizer", tokenizer],
            f"{c} is a collection, not an index file; name it as",
        ),
    ]:
        assert main([*mine, *given]) == 1
        assert words in capsys.readouterr().err
    assert clues.read_bytes() == expected
