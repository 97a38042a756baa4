"""Corpus readers and the document store: every format, every bad row, by file and line."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest

from gemkr.data.corpus import BadRows, read_corpus
from gemkr.data.documents import DocumentStore
from gemkr.errors import DataError
from gemkr.types import Document


def put(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


CSV = 'kid,text\n1,"One, with ""quotes"" and\na second line."\n02,Two\n\nx,"Three ü"\n'
WANTED = [
    Document("1", 'One, with "quotes" and\na second line.'),
    Document("02", "Two"),
    Document("x", "Three ü"),
]


@pytest.mark.parametrize("name", ["c.csv", "c.csv.gz"])
def test_csv(tmp_path: Path, name: str) -> None:
    assert list(read_corpus(put(tmp_path / name, CSV))) == WANTED


def test_csv_with_byte_order_mark_windows_lines_and_other_columns(tmp_path: Path) -> None:
    path = put(tmp_path / "c.csv", "\ufefftitle,ID,text\r\nT,7,hello\r\n")
    assert list(read_corpus(path)) == [Document("7", "hello", "T")]


def test_csv_takes_fields_longer_than_the_csv_module_allows_by_default(tmp_path: Path) -> None:
    long = "word " * 60_000
    assert next(read_corpus(put(tmp_path / "c.csv", f"kid,text\n1,{long}\n"))).text == long


@pytest.mark.parametrize("key", ["_id", "pid", "doc_id", "id"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz"])
def test_jsonl(tmp_path: Path, key: str, name: str) -> None:
    rows = [{key: 0, "title": "T", "text": "a\u2028b"}, {key: "q", "text": "c"}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    found = list(read_corpus(put(tmp_path / name, text)))
    assert found == [Document("0", "a\u2028b", "T"), Document("q", "c")]
    assert found[0].contents == "T. a\u2028b"


def test_dpr_tsv(tmp_path: Path) -> None:
    path = put(tmp_path / "psgs.tsv.gz", 'id\ttext\ttitle\n1\t"Aaron is ""a"" prophet"\tAaron\n')
    assert list(read_corpus(path)) == [Document("1", 'Aaron is "a" prophet', "Aaron")]


def test_kilt_tsv_has_no_header_and_no_quoting(tmp_path: Path) -> None:
    path = put(tmp_path / "kilt.tsv", '1\tAaron\t"He said\tso\n2\tBen\ttext\n')
    assert list(read_corpus(path)) == [Document("1", '"He said\tso', "Aaron"), Document("2", "text", "Ben")]


@pytest.mark.parametrize("name", ["collection.tsv", "collection.tsv.gz"])
def test_ms_marco_tsv_has_two_columns_and_quotes_are_text(tmp_path: Path, name: str) -> None:
    rows = '0\tThe "Manhattan Project" began\r\n1\t"An open quote\n\n2\tid text\n'
    assert list(read_corpus(put(tmp_path / name, rows))) == [
        Document("0", 'The "Manhattan Project" began'),
        Document("1", '"An open quote'),
        Document("2", "id text"),
    ]


def test_most_rows_decide_between_ms_marco_and_kilt(tmp_path: Path) -> None:
    path = put(tmp_path / "c.tsv", "1\tA\ta\n2\tb\n3\tc\n")
    with pytest.raises(
        DataError, match=r"c\.tsv:1: the row has 3 columns, MS MARCO's rows have 2 \(id, text\)"
    ):
        list(read_corpus(path))
    path = put(tmp_path / "c.tsv", "1\ta\n2\tB\tb\n3\tC\tc\n")
    with pytest.raises(DataError, match=r"c\.tsv:1: the row has 2 columns, KILT rows have 3"):
        list(read_corpus(path))


BAD = [
    ("c.csv", "kid,text\n1,a\n2\n3,c\n", 3, "1 columns"),
    ("c.csv", "kid,text\n1,a\n2,b,c\n3,c\n", 3, "3 columns"),
    ("c.csv", "kid,text\n1,a\n2,  \n3,c\n", 3, "'2' has neither a text nor a picture"),
    ("c.csv", "kid,text\n1,a\n ,b\n3,c\n", 3, "id is empty"),
    ("c.csv", 'kid,text\n1,a\n2,"b"x\n3,c\n', 3, "quoting"),
    ("c.csv", 'kid,text\n1,a\n2,"b\n4,c\n5,"d"\n3,c\n', 3, "quoting up to line 5"),
    ("c.csv", b"kid,text\n1,a\n2,\xff\xfe\n3,c\n", 3, "UTF-8"),
    ("c.csv", "kid,text\n1,a\n1,b\n3,c\n", 3, "'1' already stands in line 2"),
    ("c.jsonl", '{"_id":1,"text":"a"}\n{"_id":2,\n{"_id":3,"text":"c"}\n', 2, "JSON"),
    ("c.jsonl", '{"_id":1,"text":"a"}\n' + "[" * 100_000 + '\n{"_id":3,"text":"c"}\n', 2, "nested too deep"),
    ("c.jsonl", '{"_id":1,"text":"a"}\n[2]\n{"_id":3,"text":"c"}\n', 2, "object"),
    ("c.jsonl", '{"_id":1,"text":"a"}\n{"text":"b"}\n{"_id":3,"text":"c"}\n', 2, "no document id"),
    ("c.jsonl", '{"_id":1,"text":"a"}\n{"_id":2,"text":null}\n{"_id":3,"text":"c"}\n', 2, "no text"),
    ("c.jsonl", '{"_id":1,"text":"a"}\n{"_id":2,"text":"\\ud800"}\n{"_id":3,"text":"c"}\n', 2, "UTF-8"),
    ("c.tsv", "1\tA\ta\n2\tB\n3\tC\tc\n", 2, "2 columns"),
    ("c.tsv", "id\ttext\ttitle\n1\ta\tA\n2\tb\n3\tc\tC\n", 3, "2 columns"),
]


@pytest.mark.parametrize(("name", "content", "line", "reason"), BAD)
def test_a_bad_row_stops_or_is_counted_and_named(
    tmp_path: Path, name: str, content: str | bytes, line: int, reason: str
) -> None:
    path = put(tmp_path / name, content)
    with pytest.raises(DataError, match=f"{name}:{line}: ") as caught:
        list(read_corpus(path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    bad = BadRows()
    assert [d.doc_id for d in read_corpus(path, skip_bad_rows=bad)] == ["1", "3"]
    (row,) = bad
    assert (row.line, str(path)) == (line, row.path)
    assert reason in str(row)


@pytest.mark.parametrize("bad", [None, BadRows()])
def test_an_open_quote_at_the_end_is_fatal_and_named_by_its_row(tmp_path: Path, bad: BadRows | None) -> None:
    rows = "".join(f"{n},text {n}\n" for n in range(3, 1000))
    for name, content in (
        ("c.csv", f'kid,text\n1,a\n2,"b\n{rows}'),
        ("c.tsv", f'id\ttext\n1\ta\n2\t"b\n{rows}'),
        ("c.csv", 'kid,text\n1,a\n2,"b'),
    ):
        path = put(tmp_path / name, content)
        with pytest.raises(
            DataError, match=rf"{name}:3: the row opens a quote that is never closed.* all [\d,]+"
        ):
            list(read_corpus(path, skip_bad_rows=bad))
    assert not bad
    with pytest.raises(DataError, match=r"c\.csv:1: the row opens a quote"):
        list(read_corpus(put(tmp_path / "c.csv", '"kid,text\n1,a\n'), skip_bad_rows=bad))


@pytest.mark.parametrize("content", ["", "kid,text\n", "\n\n"])
def test_an_empty_corpus_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError):
        list(read_corpus(put(tmp_path / "c.csv", content)))
    with pytest.raises(DataError, match="no document"):
        list(read_corpus(put(tmp_path / "c.jsonl", content.replace("kid,text", ""))))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(read_corpus(tmp_path / "none.csv"))
    with pytest.raises(DataError, match="unknown extension"):
        list(read_corpus(put(tmp_path / "c.txt", "x")))
    with pytest.raises(DataError, match="names no text column"):
        list(read_corpus(put(tmp_path / "h.csv", "kid,body\n1,a\n")))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress((CSV * 5000).encode())[:-30])
    with pytest.raises(DataError, match="damaged gzip"):
        list(read_corpus(cut, skip_bad_rows=BadRows()))
    (tmp_path / "not.csv.gz").write_text("kid,text\n1,a\n")
    with pytest.raises(DataError, match="damaged gzip"):
        list(read_corpus(tmp_path / "not.csv.gz"))


def test_all_rows_bad_says_how_many_were_skipped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 bad rows were skipped"):
        list(read_corpus(put(tmp_path / "c.csv", "kid,text\n1,\n"), skip_bad_rows=BadRows()))


def test_document_store(tmp_path: Path) -> None:
    store = DocumentStore.open(put(tmp_path / "c.csv", "kid,title,text\na,Tü,xü\nb,,y\n"))
    assert len(store) == 2
    assert store[0] == Document("a", "xü", "Tü")
    assert store.by_id("b") == store[1] == Document("b", "y")
    assert list(store) == store[:] == [store[0], store[1]]
    assert store.contents(0) == "Tü. xü"
    assert store.number("b") == 1
    assert "b" in store
    assert "c" not in store
    with pytest.raises(DataError, match="'c' is not among the 2 documents"):
        store.by_id("c")
    with pytest.raises(IndexError):
        store[2]
    with pytest.raises(IndexError):
        store[-1]


def test_document_store_of_other_documents(tmp_path: Path) -> None:
    store = DocumentStore([Document("a", "x"), Document("b", "y")])
    store.require_same_documents(["a", "b"])
    with pytest.raises(DataError, match="the index holds 1 documents, the corpus 2"):
        store.require_same_documents(["a"])
    with pytest.raises(DataError, match="document 1 is 'c' in the index and 'b' in the corpus"):
        store.require_same_documents(["a", "c"])
    path = put(tmp_path / "c.csv", "kid,text\na,x\nbad\nb,y\n")
    assert list(DocumentStore.open_indexed(path, ["a", "b"])) == list(store)
    with pytest.raises(
        DataError,
        match=r"the index holds 3 documents, the corpus 2 and 1 bad rows \(.*c\.csv:3: the row has 1",
    ):
        DocumentStore.open_indexed(path, ["a", "b", "c"])
    with pytest.raises(DataError, match="'a' belongs to documents 0 and 1"):
        DocumentStore([Document("a", "x"), Document("a", "y")])
    with pytest.raises(DataError, match="no document"):
        DocumentStore([])


@pytest.mark.shared
def test_real_corpora(shared_data: Path) -> None:
    assert sum(1 for _ in read_corpus(shared_data / "qa_passages" / "passages.jsonl.gz")) == 18_066
    wordnet = list(islice(read_corpus(shared_data / "corpora" / "wordnet.csv.gz"), 1000))
    assert wordnet[1].doc_id == "00001740-n"
    assert wordnet[1].text.startswith("entity: ")


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    put(tmp_path / "b" / "two.txt", "\ufeffTwo\r\nlines\n")
    put(tmp_path / "b.txt", "One")
    put(tmp_path / "a.v2.txt", "Three ü\n")
    put(tmp_path / "notes.md", "not a document")
    found = [Document("a.v2", "Three ü"), Document("b", "One"), Document("b/two", "Two\r\nlines")]
    assert list(read_corpus(tmp_path)) == found
    assert DocumentStore.open(tmp_path).doc_ids == ["a.v2", "b", "b/two"]


def test_faults_of_a_folder_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder without \.txt files"):
        list(read_corpus(tmp_path))
    put(tmp_path / "good.txt", "fine")
    empty = put(tmp_path / "empty.txt", " \n")
    with pytest.raises(
        DataError, match=r"empty\.txt:1: the document 'empty' has neither a text nor a picture"
    ):
        list(read_corpus(tmp_path))
    latin = put(tmp_path / "latin.txt", "caf\xe9".encode("latin-1"))
    bad = BadRows()
    assert [document.doc_id for document in read_corpus(tmp_path, skip_bad_rows=bad)] == ["good"]
    assert [(row.path, row.reason) for row in bad] == [
        (str(empty), "the document 'empty' has neither a text nor a picture"),
        (
            str(latin),
            "the row is not valid UTF-8: the byte E9 is 'é' in latin-1, from which `iconv -f WINDOWS-1252 -t UTF-8` "
            "converts a file",
        ),
    ]


def test_pictures_are_documents(tmp_path: Path) -> None:
    """With a text or alone, in jsonl and csv; a store keeps them, and its fingerprint knows them."""
    (tmp_path / "c.jsonl").write_text(
        '{"id": 1, "image": "a"}\n{"id": 2, "text": "x", "image": "b"}\n{"id": 3, "text": "y"}\n'
    )
    (tmp_path / "c.csv").write_text("id,text,image\n1,,a\n2,x,b\n3,y,\n")
    wanted = [Document("1", "", "", "a"), Document("2", "x", "", "b"), Document("3", "y")]
    stores = [DocumentStore.open(tmp_path / name) for name in ("c.jsonl", "c.csv")]
    for store in stores:
        assert list(store) == wanted
    assert stores[0].fingerprint == stores[1].fingerprint
    others = [
        wanted[:2],
        [*wanted[:2], Document("3", "z")],
        [*wanted[:2], Document("3", "y", "", "c")],
        [*wanted[:2], Document("3", "", "y")],
    ]
    assert len({store.fingerprint for store in map(DocumentStore, others)} | {stores[0].fingerprint}) == 5
    (tmp_path / "c.jsonl").write_text('{"id": 1, "image": 7}\n')
    with pytest.raises(DataError, match=r"c\.jsonl:1: the key 'image' must hold the id of a picture"):
        DocumentStore.open(tmp_path / "c.jsonl")
