"""The index file: what is written is what is read, and damage is named."""

from __future__ import annotations

import json
import os
import random
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from toy_index import toy_docs, toy_index

from gemkr.fm_index import FMIndex, IndexCorruptError, IndexFormatError, _core

DATA = Path(__file__).parent


PLACES = re.compile(r"section '\w+'|the header|the section table|the padding|bytes")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "toy.fmi"
    toy_index(document_array=True).save(path)
    return path


@pytest.mark.parametrize("mmap", [True, False])
def test_reads_back_what_was_written(saved: Path, mmap: bool):
    built, index = toy_index(document_array=True), FMIndex.load(saved, mmap=mmap, verify=True)
    assert index.info() == built.info()
    assert list(index.doc_ids) == list(built.doc_ids)
    assert index.doc_ids == [f"dok-{k}-é" for k in range(12)]
    assert index.tokenizer_fingerprint == "toy:1"
    assert index.has_document_array
    assert index.sample_rate == 4
    assert [index.extract(d).tolist() for d in range(len(index))] == toy_docs()
    everything = np.array([0]), np.array([index.n_rows])
    for got, want in zip(index.next_tokens_many(*everything), built.next_tokens_many(*everything)):
        np.testing.assert_array_equal(got, want)
    again = saved.with_name("again.fmi")
    index.save(again)
    assert again.read_bytes() == saved.read_bytes()
    assert sorted(p.name for p in saved.parent.iterdir()) == ["again.fmi", "toy.fmi"]


def test_checksum_is_xxh64():
    assert _core.xxh64(b"") == 0xEF46DB3751D8E999
    assert _core.xxh64(b"abc") == 0x44BC2CF5AD770999
    assert _core.xxh64(b"Nobody inspects the spammish repetition") == 0xFBCEA83C8A378BF1


def test_one_flipped_byte_anywhere_is_named(saved: Path):
    image = saved.read_bytes()
    rng = random.Random(1)
    with saved.open("r+b", buffering=0) as file:
        for place, old in enumerate(image):
            os.pwrite(file.fileno(), bytes([old ^ rng.choice((0xFF, 1 << rng.randrange(8)))]), place)
            with pytest.raises((IndexFormatError, IndexCorruptError), match=PLACES):
                FMIndex.load(saved).verify()
            os.pwrite(file.fileno(), bytes([old]), place)
    FMIndex.load(saved).verify()


def test_any_shorter_or_longer_file_fails_at_load(saved: Path):
    image = saved.read_bytes()
    for size in [*range(0, len(image), 37), len(image) - 1]:
        saved.write_bytes(image[:size])
        with pytest.raises(IndexFormatError, match=r"cut short|empty"):
            FMIndex.load(saved)
    saved.write_bytes(image + b"\0")
    with pytest.raises(IndexFormatError, match="added to"):
        FMIndex.load(saved)


def test_damage_without_verify_is_never_worse_than_an_error(saved: Path):
    image = saved.read_bytes()
    rng = random.Random(2)
    rows = np.arange(FMIndex.load(saved).n_rows)
    for _ in range(400):
        copy = bytearray(image)
        for _ in range(rng.randrange(1, 9)):
            copy[rng.randrange(256 + 18 * 64, len(copy))] = rng.randrange(256)
        saved.write_bytes(copy)
        try:
            index = FMIndex.load(saved)
        except IndexFormatError:
            continue
        for query in (
            lambda i: i.next_tokens(i.root),
            lambda i: i.search([1, 1, 2]),
            lambda i: i.locate_rows(rows),
            lambda i: i.documents(i.root),
            lambda i: [i.extract(d) for d in range(len(i))],
            lambda i: list(i.doc_ids),
            lambda i: i.next_tokens_many(rows[:-1], rows[1:]),
            lambda i: i.fill_mask(rows[:-3], rows[3:], np.empty((len(rows) - 3, i.mask_words), np.uint32)),
        ):
            with suppress(IndexCorruptError):
                query(index)


@pytest.mark.parametrize("make", ["text", "folder", "missing"])
def test_foreign_files_are_refused(tmp_path: Path, make: str):
    path = tmp_path / "x.fmi"
    if make == "text":
        path.write_text("kid,text\n" * 900)
    elif make == "folder":
        path.mkdir()
    with pytest.raises(IndexFormatError, match=re.escape(str(path))):
        FMIndex.load(path)


def test_names_that_are_not_utf8_are_names(tmp_path: Path, saved: Path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    with pytest.raises(IndexFormatError, match="No such file"):
        FMIndex.load(folder / "x.fmi")
    (folder / "x.fmi").write_bytes(saved.read_bytes())
    assert len(FMIndex.load(folder / "x.fmi", verify=True)) == len(FMIndex.load(saved))
    (folder / "x.fmi").write_text("no index")
    with pytest.raises(IndexFormatError, match=re.escape(str(folder))):
        FMIndex.load(folder / "x.fmi")


def test_other_version_and_byte_order_are_told(saved: Path):
    image = bytearray(saved.read_bytes())
    for place, message in ((12, "format version 2"), (8, "byte order")):
        changed = bytearray(image)
        changed[place] = 2
        saved.write_bytes(changed)
        with pytest.raises(IndexFormatError, match=message):
            FMIndex.load(saved)


def test_golden_file_of_version_1(tmp_path: Path):
    """Bytes of version 1 never change: neither what old files mean nor what is written."""
    golden = DATA / "golden_v1.fmi"
    index = FMIndex.load(golden, verify=True)
    expected = json.loads((DATA / "golden_v1.json").read_text())
    assert [index.extract(d).tolist() for d in range(len(index))] == expected["docs"]
    assert list(index.doc_ids) == expected["doc_ids"]
    assert index.corpus_hash == expected["corpus_hash"]
    span = index.search(expected["pattern"])
    assert list(span) == expected["rows"]
    assert index.locate(span).tolist() == expected["places"]
    assert [a.tolist() for a in index.next_tokens(span)] == expected["next_tokens"]
    toy_index(document_array=True).save(tmp_path / "now.fmi")
    assert (tmp_path / "now.fmi").read_bytes() == golden.read_bytes()
