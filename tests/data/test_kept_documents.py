"""Documents kept beside an index: the same as those that are read, made anew when the corpus changes, never of wrong text."""

from __future__ import annotations

import errno
import fcntl
import gzip
import hashlib
import json
import multiprocessing
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gemkr.data import documents as store_module
from gemkr.data import kept_documents
from gemkr.data.corpus import BadRows, read_corpus
from gemkr.data.documents import DocumentStore
from gemkr.data.documents_file import open_documents, write_documents
from gemkr.errors import DataError
from gemkr.sources import Sources
from gemkr.types import Document

TEXTS = [
    Document("a", "one"),
    Document("bü", "zwei ü", "Tü"),
    Document("c", "", "", "c.png"),
    Document("d", "x"),
]


@pytest.fixture(autouse=True)
def _small_and_new_corpora_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_documents, "LEAST_BYTES", 0)
    monkeypatch.setattr(kept_documents, "SETTLED_NS", -1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"_id": d.doc_id, "text": d.text, "title": d.title, "image": d.image} for d in TEXTS]
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return tmp_path / "made" / "c.fmi"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The corpora that were read from start to end."""
    found: list[Path] = []

    def read(path: Path, **settings: object) -> Iterator[Document]:
        yield from read_corpus(path, **settings)
        found.append(path)

    monkeypatch.setattr(store_module, "read_corpus", read)
    return found


def names(index: Path) -> list[str]:
    return sorted(path.name for path in index.parent.iterdir())


def twin_fingerprint(documents: list[Document]) -> str:
    """As every gemkr before computed it, document by document."""
    ends, texts, images = array("q", [0]), b"", {}
    for number, document in enumerate(documents):
        for part in (document.title.encode(), document.text.encode()):
            texts += part
            ends.append(len(texts))
        if document.image is not None:
            images[number] = document.image
    digest = hashlib.sha256("\n".join(d.doc_id for d in documents).encode())
    for part in (ends, texts, repr(images).encode()):
        digest.update(part)
    return digest.hexdigest()


def test_the_second_start_reads_nothing_and_has_the_same_documents(
    corpus: Path, index: Path, reads: list[Path]
) -> None:
    stores = [DocumentStore.open(corpus, index=index) for _ in range(3)]
    assert reads == [corpus]
    assert names(index) == [".c.fmi.documents"]
    for store in (*stores, DocumentStore.open(corpus), DocumentStore(TEXTS)):
        assert list(store) == store[:] == TEXTS
        assert [store.number(d.doc_id) for d in TEXTS] == [0, 1, 2, 3]
        assert list(store.doc_ids) == store.doc_ids[:] == [d.doc_id for d in TEXTS]
        assert store.fingerprint == twin_fingerprint(TEXTS)
        assert all(wrong not in store for wrong in ("", "b", "\ud800", 3))
        assert len(store) == 4


def test_random_documents_equal_those_given(tmp_path: Path) -> None:
    many = [
        Document(f"{i * 7919 % 5000}", "w" * (i % 50), "é" * (i % 3), f"p{i}" if i % 4 == 0 else None)
        for i in range(5000)
    ]
    store = DocumentStore(many)
    assert list(store) == many
    assert [store[i] for i in range(0, 5000, 37)] == many[::37]
    assert [store.number(d.doc_id) for d in many[::37]] == list(range(0, 5000, 37))
    assert list(store.doc_ids) == [d.doc_id for d in many]
    assert store.fingerprint == twin_fingerprint(many)
    with pytest.raises(DataError, match="'5' belongs to documents 3395 and 5000"):
        DocumentStore([*many, Document("5", "twice")])


def test_a_changed_corpus_is_read_again(corpus: Path, index: Path, reads: list[Path]) -> None:
    before = DocumentStore.open(corpus, index=index)
    stat = corpus.stat()
    other = [Document("a", "two"), *TEXTS[1:]]
    rows = [{"_id": d.doc_id, "text": d.text, "title": d.title, "image": d.image} for d in other]
    corpus.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    os.utime(corpus, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # and its time was put back
    assert list(DocumentStore.open(corpus, index=index)) == other
    assert list(DocumentStore.open(corpus, index=index)) == other
    assert list(before) == TEXTS, "who has it open keeps what it opened"
    assert len(reads) == 2


def test_other_readers_read_again(
    corpus: Path, index: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    DocumentStore.open(corpus, index=index)
    monkeypatch.setattr(kept_documents, "_source_of_readers", lambda: b"another gemkr")
    assert list(DocumentStore.open(corpus, index=index)) == TEXTS
    assert len(reads) == 2


def test_a_folder_of_texts_is_kept_too(tmp_path: Path, index: Path, reads: list[Path]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    (folder / "b.txt").write_text("two")
    for wanted in (["one", "two"], ["one", "two"]):
        assert [d.text for d in DocumentStore.open(folder, index=index)] == wanted
    (folder / "b.txt").rename(folder / "c.txt")
    assert list(DocumentStore.open(folder, index=index).doc_ids) == ["a", "c"]
    assert len(reads) == 2


def test_small_corpora_and_those_of_this_moment_are_not_kept(
    corpus: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LEAST_BYTES", 1 << 20), ("SETTLED_NS", 60 * 10**9)):
        with monkeypatch.context() as patch:
            patch.setattr(kept_documents, name, value)
            assert list(DocumentStore.open(corpus, index=index)) == TEXTS
    assert names(index) == []


def test_a_corpus_that_changes_while_it_is_read_is_not_kept(
    corpus: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, **settings: object) -> Iterator[Document]:
        yield from read_corpus(path, **settings)
        os.utime(path)

    monkeypatch.setattr(store_module, "read_corpus", read)
    assert list(DocumentStore.open(corpus, index=index)) == TEXTS
    assert names(index) == []


def test_bad_rows_are_reported_at_every_start(tmp_path: Path, index: Path) -> None:
    corpus = tmp_path / "bad.csv"
    corpus.write_text("kid,text\na,x\nbad\nb,y\n")
    for _ in range(2):
        bad = BadRows()
        assert list(DocumentStore.open(corpus, skip_bad_rows=bad, index=index).doc_ids) == ["a", "b"]
        assert [row.line for row in bad] == [3]
        with pytest.raises(DataError, match=r"bad\.csv:3: the row has 1"):
            DocumentStore.open(corpus, index=index)
    assert names(index) == []


@pytest.mark.parametrize("at", [0, 5, "tables", "head", "end", "short", "empty", "other"])
def test_a_damaged_file_never_gives_wrong_text(
    corpus: Path, index: Path, at: int | str, reads: list[Path]
) -> None:
    DocumentStore.open(corpus, index=index)
    (path,) = index.parent.iterdir()
    whole = path.read_bytes()
    tables = json.loads(whole[whole.index(b'{"stamp"') : -20])["tables"]
    place = {"tables": tables + 3, "head": len(whole) - 30, "end": len(whole) - 12}.get(at, at)
    wrong = {"short": whole[:-1], "empty": b"", "other": b"gemkr" * 100}.get(at)
    if wrong is None:
        wrong = bytearray(whole)
        wrong[place] ^= 1
    path.unlink()
    path.write_bytes(wrong)
    store = DocumentStore.open(corpus, index=index)
    if isinstance(at, int):
        with pytest.raises(
            DataError, match=rf"document [01] is damaged in .*{path.name}, .* deleted now; start"
        ):
            list(store)
        with pytest.raises(DataError, match="is damaged"):
            store[0 if at < 3 else 1]
        assert names(index) == []
        store = DocumentStore.open(corpus, index=index)
    assert list(store) == TEXTS
    assert list(DocumentStore.open(corpus, index=index)) == TEXTS
    assert (len(reads), names(index)) == (2, [path.name])


def test_every_changed_byte_is_noticed(corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "d"
    with open(path, "wb") as stream:
        write_documents(stream, TEXTS, "s")
    whole = path.read_bytes()
    refused = 0
    for at in range(len(whole)):
        wrong = bytearray(whole)
        wrong[at] ^= 0x40
        path.unlink()
        path.write_bytes(wrong)
        with open(path, "rb") as stream:
            try:
                found = open_documents(stream)
            except ValueError:
                refused += 1
                continue
        documents = list(found.read(0, 4))
        assert [d for d in documents if d is not None] == [
            d for d, f in zip(TEXTS, documents, strict=True) if f is not None
        ]
        assert None in documents or at < found.texts.bounds[-1] + 8, "a padding byte at most"
    assert refused > 200


def test_without_a_place_to_write_documents_are_read_as_ever(
    corpus: Path, index: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index.parent.chmod(0o555)  # this may be root
    assert list(DocumentStore.open(corpus, index=index)) == TEXTS
    index.parent.chmod(0o755)
    assert names(index) == []
    real = kept_documents.write_documents

    def full(stream: object, documents: Iterator[Document], stamp: str) -> None:
        real(stream, [next(documents), next(documents)], stamp)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(kept_documents, "write_documents", full)
        assert list(DocumentStore.open(corpus, index=index)) == TEXTS
    assert names(index) == []
    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(kept_documents.os, call, _fail)
            assert list(DocumentStore.open(corpus, index=index)) == TEXTS
        assert names(index) == []
    assert list(DocumentStore.open(corpus, index=index.parent / "no" / "c.fmi")) == TEXTS


def _fail(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_a_private_corpus_stays_private(corpus: Path, index: Path) -> None:
    corpus.chmod(0o600)
    DocumentStore.open(corpus, index=index)
    (path,) = index.parent.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_is_deleted_by_the_next_and_a_living_one_s_is_not(
    corpus: Path, index: Path
) -> None:
    dead, alive = (index.parent / f".c.fmi.documents.{name}.part" for name in ("dead", "alive"))
    dead.touch()
    with open(alive, "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        DocumentStore.open(corpus, index=index)
        assert names(index) == [".c.fmi.documents", alive.name]


def _start(corpus: Path, index: Path) -> bool:
    kept_documents.LEAST_BYTES, kept_documents.SETTLED_NS = 0, -1
    return all(list(DocumentStore.open(corpus, index=index)) == TEXTS for _ in range(20))


def test_processes_that_start_at_once(corpus: Path, index: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert pool.starmap(_start, [(corpus, index)] * 8) == [True] * 8
    assert names(index) == [".c.fmi.documents"]


@pytest.mark.parametrize("setting", ["index", "vectors", "tokens"])
def test_a_configuration_keeps_them_beside_what_was_made_of_the_corpus(
    corpus: Path, index: Path, setting: str, reads: list[Path]
) -> None:
    other = SimpleNamespace(config=SimpleNamespace(index=None))
    section = SimpleNamespace(config=SimpleNamespace(**{setting: str(index)}))
    for _ in range(2):
        assert list(Sources(corpus, {"other": other, "one": section}).documents) == TEXTS
    assert (len(reads), names(index)) == (1, [".c.fmi.documents"])
    assert list(Sources(corpus, {"other": other}).documents) == TEXTS
