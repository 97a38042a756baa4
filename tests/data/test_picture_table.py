"""`gemkr convert`: a folder of pictures and a csv become a corpus and queries that the readers read."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_pictures import save_pictures

from gemkr.cli import main
from gemkr.data.documents import DocumentStore
from gemkr.data.queries import read_queries

TABLE = """image,id,title,caption,question,answers,positives
one.png,,A kite,"red, and high",what flies?,kite|toy,
two.png,p2,,,,,
one.png,,,,where is it?,,
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save_pictures(tmp_path / "images", ["one", "two"])
    (tmp_path / "table.csv").write_text(TABLE)
    return tmp_path


def test_round_trip(folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["convert", "images", "table.csv", "--corpus", "corpus.jsonl", "--queries", "queries.jsonl"]
    assert main(words) == 0
    assert "corpus.jsonl: 2 documents\nqueries.jsonl: 2 queries" in capsys.readouterr().out
    first, second = DocumentStore.open("corpus.jsonl")
    assert (first.doc_id, first.title, first.text, first.image) == (
        "one",
        "A kite",
        "red, and high",
        "one.png",
    )
    assert (second.doc_id, second.contents, second.image) == ("p2", "", "two.png")
    flies, where = read_queries("queries.jsonl")
    assert (flies.query_id, flies.question, flies.image) == ("q0", "what flies?", None)
    assert (flies.answers, flies.positives) == (("kite", "toy"), ("one",))
    assert where.positives == ("one",)
    assert main([*words, "--questions", "about"]) == 0
    flies, _ = read_queries("queries.jsonl")
    assert (flies.image, flies.positives) == ("one.png", ())


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("image,colour\none.png,red\n", "table.csv:1: the header must name the column 'image'"),
        ("id,text\na,b\n", "'image', and may name"),
        ("image,id\none.png\n", "table.csv:2: the row has 1 columns, the header names 2"),
        ("image,text\n,red\n", "table.csv:2: the row names no picture; fill its column 'image'"),
        ("image,text\none.png,red\none.png,blue\n", "table.csv:3: the document 'one' stands in an earlier row with another"),
        ("image,id\none.png,a\ntwo.png,a\n", "table.csv:3: the document 'a' stands in an earlier row"),
        ("image,id\none.png,a b\n", "table.csv:2: the id 'a b' holds white space"),
        ("image,question,positives\none.png,x,one|a b\n", "table.csv:2: the document in positives 'a b' holds white space"),
        ("image,text\none.png,caf\udce9\n", "table.csv:2: the column 'text' is not valid UTF-8: the byte E9 is"),
        ("image,question,query_id\none.png,x,q\ntwo.png,y,q\n", "table.csv:3: the query id 'q' repeats"),
        ("image\nsix.png\n", "table.csv:2: the picture 'six.png' is not in images; put it there, or delete the row"),
        ("image\n", "there is no row below the header"),
        ('image,text\none.png,"red\n', "broken quoting"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture, table: str, sentence: str
) -> None:
    (folder / "table.csv").write_text(table, encoding="utf-8", errors="surrogateescape")
    assert main(["convert", "images", "table.csv", "--corpus", "corpus.jsonl"]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (folder / "corpus.jsonl").exists()


def test_queries_need_questions(folder: Path, capsys: pytest.CaptureFixture) -> None:
    (folder / "table.csv").write_text("image\none.png\n")
    assert main(["convert", "images", "table.csv", "--corpus", "c.jsonl", "--queries", "q.jsonl"]) == 1
    assert "no row of table.csv has a question" in capsys.readouterr().err


def test_corpus_and_queries_are_two_files(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["convert", "images", "table.csv", "--corpus", "x.jsonl", "--queries", "x.jsonl"]) == 1
    assert "--corpus and --queries are the same file x.jsonl; name two" in capsys.readouterr().err
    assert not (folder / "x.jsonl").exists()
