"""Encodings and separators of other programs: each is named in one sentence with the way out."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from gemkr.data.corpus import read_corpus
from gemkr.data.qrels import read_qrels
from gemkr.data.queries import read_queries
from gemkr.data.text_files import id_fault, separator_hint, utf8_fault
from gemkr.data.trec import read_run
from gemkr.errors import DataError
from gemkr.evaluation.pools import read_pools

READERS = {
    "c.csv": (read_corpus, "kid,text\n1,a barn owl\n"),
    "c.tsv": (read_corpus, "1\ta barn owl\n"),
    "c.jsonl": (read_corpus, '{"id": 1, "text": "a barn owl"}\n'),
    "q.jsonl": (read_queries, '{"id": 1, "question": "what?"}\n'),
    "q.json": (read_queries, '[{"input": "what?"}]'),
    "q.tsv": (read_queries, "1\twhat?\n"),
    "qrels.txt": (read_qrels, "1 0 d 1\n"),
    "run.trec": (read_run, "1 Q0 d 1 0.5 t\n"),
    "pool.txt": (lambda path: read_pools({"p": str(path)}, ["d"]), "d\n"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("encoding", "mark", "named"),
    [
        ("utf-16-le", b"\xff\xfe", "UTF-16 text (it begins with the byte order mark FF FE)"),
        ("utf-16-be", b"\xfe\xff", "UTF-16 text (it begins with the byte order mark FE FF)"),
        ("utf-16-le", b"", "UTF-16LE text (every other byte is zero)"),
        ("utf-16-be", b"", "UTF-16BE text (every other byte is zero)"),
        ("utf-32-le", b"\xff\xfe\0\0", "UTF-32 text (it begins with the byte order mark FF FE 00 00)"),
    ],
)
def test_utf16_is_named(
    tmp_path: Path, name: str, packed: bool, encoding: str, mark: bytes, named: str
) -> None:
    read, text = READERS[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    content = mark + text.encode(encoding)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=re.escape(f"{path} is {named}, not UTF-8; convert it with `iconv")):
        list(read(path))
    path.write_bytes(gzip.compress(text.encode()) if packed else b"\xef\xbb\xbf" + text.encode())
    assert list(read(path))


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("c.csv", "kid,text\n1,a\n2,caf\xe9\n", 3),
        ("c.tsv", "1\ta\n2\tcaf\xe9\n", 2),
        ("c.jsonl", '{"id": 1, "text": "a"}\n{"id": 2, "text": "caf\xe9"}\n', 2),
        ("q.jsonl", '{"id": 1, "question": "caf\xe9?"}\n', 1),
        ("q.tsv", "1\ta\n2\tcaf\xe9?\n", 2),
        ("qrels.txt", "1 0 d 1\n1 0 caf\xe9 1\n", 2),
        ("run.trec", "1 Q0 d 1 0.5 t\n1 Q0 caf\xe9 2 0.4 t\n", 2),
        ("pool.txt", "d\ncaf\xe9\n", 2),
    ],
)
def test_latin_1_is_named_by_its_byte_and_line(tmp_path: Path, name: str, content: str, line: int) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=re.escape(f"{path}:{line}: ")) as caught:
        list(READERS[name][0](path))
    said = str(caught.value)
    assert "not valid UTF-8: the byte E9 is 'é' in latin-1" in said
    assert "`iconv -f WINDOWS-1252 -t UTF-8` converts a file" in said
    assert "\n" not in said


def test_half_a_character_is_no_latin_1() -> None:
    assert utf8_fault("a\ud800") == "not valid UTF-8: half a character stands alone, \\ud800"
    assert utf8_fault("é 😀") is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.csv", "kid;text\n1;a\n", ":1: the header 'kid;text' is one column; the columns seem to be separated by ';', write ',' there"),
        ("c.csv", "kid\ttext\n1\ta\n", ":1: the header 'kid\\ttext' is one column; the columns seem to be separated by a tab, write ','"),
        ("c.csv", '"kid";"text"\n1;a\n', "; the columns seem to be separated by ';', write ',' there"),
        ("c.csv", "kid|text\n1|a\n", "separated by '|', write ','"),
        ("c.tsv", "kid;text;title\n1;a;b\n", ":1: the row has 1 columns, KILT rows have 3 (id, title, text); the columns seem to be separated by ';', write a tab there"),
        ("c.tsv", "0;The presence of\n", "separated by ';', write a tab"),
        ("q.tsv", "1,what?\n", ":1: the row has 1 columns, queries have 2 (id, question); the columns seem to be separated by ',', write a tab"),
        ("qrels.txt", "query-id,corpus-id,score\n1,d,1\n", ":1: the row has 1 columns, qrels have 4"),
        ("qrels.txt", "1,0,d,1\n", "separated by ',', write white space there"),
        ("run.trec", "1;Q0;d;1;0.5;t\n", "separated by ';', write white space there"),
    ],
)  # fmt: skip
def test_another_separator_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        list(READERS[name][0](path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_separator_is_named_only_where_the_right_one_is_absent() -> None:
    assert separator_hint("a;b\tc", "\t") == ""
    assert separator_hint("ab", "\t") == ""


@pytest.mark.parametrize("space", [" ", "\t", "\u00a0", "\u3000", "\u2028", "\x0b"])
def test_an_id_has_no_white_space(space: str) -> None:
    for name in (f"a{space}b", f"{space}a", f"a{space}"):
        assert id_fault(name, "query") == (
            f"the query id {name!r} holds white space, which separates the columns of runs and qrels"
        )
    assert id_fault(space, "document") == id_fault("", "document") == "the document id is empty"
    assert id_fault("naïve/7:1", "document") is None


SPACED = [
    ("c.csv", "kid,text\n1,a\na b,b\n", 3, "document", "a b"),
    ("c.csv", "kid,text\n1,a\n 2,b\n", 3, "document", " 2"),
    ("c.tsv", "1\ta\na b\tb\n", 2, "document", "a b"),
    ("c.tsv", "id\ttext\n1\ta\na b\tb\n", 3, "document", "a b"),
    ("c.jsonl", '{"id": 1, "text": "a"}\n{"id": "a b", "text": "b"}\n', 2, "document", "a b"),
    ("q.jsonl", '{"id": 1, "question": "a"}\n{"id": "a b", "question": "b"}\n', 2, "query", "a b"),
    ("q.jsonl", '{"id": 1, "question": "a", "positives": ["d", "a b"]}\n', 1, "document", "a b"),
    ("q.tsv", "1\ta\na b\tb\n", 2, "query", "a b"),
    ("qrels.txt", "1\t0\td\t1\n1\t0\ta b\t1\n", 2, "document", "a b"),
    ("qrels.txt", "query-id\tcorpus-id\tscore\na b\td\t1\n", 2, "query", "a b"),
    ("run.trec", "1\tQ0\ta b\t1\t0.5\tt\n", 1, "document", "a b"),
    ("pool.txt", "d\na b\n", 2, "document", "a b"),
]


@pytest.mark.parametrize(("name", "content", "line", "what", "shown"), SPACED)
def test_ids_with_white_space_are_refused_when_read(
    tmp_path: Path, name: str, content: str, line: int, what: str, shown: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    said = f"{path}:{line}: the {what} id {shown!r} holds white space"
    with pytest.raises(DataError, match=re.escape(said)):
        list(READERS[name][0](path))


@pytest.mark.parametrize(
    ("name", "content", "line", "what"),
    [
        ("c.tsv", "1\ta\n\tb\n", 2, "document"),
        ("c.jsonl", '{"id": "", "text": "b"}\n', 1, "document"),
        ("q.tsv", "\twhat?\n", 1, "query"),
        ("q.jsonl", '{"id": 1, "question": "a", "positives": [""]}\n', 1, "document"),
        ("qrels.txt", "1\t0\t\t1\n", 1, "document"),
        ("run.trec", "\tQ0\td\t1\t0.5\tt\n", 1, "query"),
    ],
)
def test_empty_ids_are_refused_when_read(
    tmp_path: Path, name: str, content: str, line: int, what: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=re.escape(f"{path}:{line}: the {what} id is empty")):
        list(READERS[name][0](path))


def test_a_text_file_whose_name_holds_white_space_is_to_be_renamed(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("a barn owl")
    with pytest.raises(
        DataError, match=r"my notes\.txt:1: the document id 'my notes' holds white space.*; rename the file"
    ):
        list(read_corpus(tmp_path))  # fmt: skip
