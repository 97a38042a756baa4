"""The index file: what is written is what is read, damage is named, and no write ever loses anything."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from gemkr.fm_index import (
    FMIndex,
    FMIndexError,
    IndexBuildError,
    IndexCorruptError,
    IndexFormatError,
    IndexQueryError,
    IndexWriteError,
    Span,
    TokenizerMismatchError,
    _core,
    estimate_build,
)

DATA = Path(__file__).parent / "data"
PLACES = re.compile(r"section '\w+'|the header|the section table|the padding|bytes")


class FakeTokenizer:
    def __init__(self, name: str = "toy:1", vocab_size: int = 50) -> None:
        self.name = name
        self.vocab_size = vocab_size

    def fingerprint(self) -> str:
        return self.name


def toy_docs(seed: int = 0, documents: int = 12) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.choice((0, 1, 1, 2, 7, 49)) for _ in range(rng.randrange(14))] for _ in range(documents)]


def toy_index(**options) -> FMIndex:
    docs = toy_docs()
    ids = [f"dok-{k}-é" for k in range(len(docs))]
    return FMIndex.build(docs, ids, tokenizer=FakeTokenizer(), sample_rate=4, **options)


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


def test_same_bytes_for_any_number_of_threads(tmp_path: Path):
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.2, 250_000), 4000)
    offsets = np.unique(np.r_[0, rng.integers(0, len(tokens), 900), len(tokens)])
    images = []
    for threads in (1, 2, 7):
        path = tmp_path / f"{threads}.fmi"
        FMIndex.build_flat(tokens, offsets, threads=threads, document_array=True).save(path)
        images.append(path.read_bytes())
    assert images[0] == images[1] == images[2]


FULL_DISK = """
import resource, sys
from gemkr.fm_index import FMIndex, IndexWriteError
index = FMIndex.build([[k % 97, k % 89] for k in range(20000)])
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    index.save(sys.argv[1])
except IndexWriteError as error:
    print(error)
"""


def test_full_disk_leaves_the_old_file_and_nothing_else(saved: Path):
    before = saved.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, saved], capture_output=True, text=True, check=True
    )
    assert re.match(r"cannot write index .*toy\.fmi \([\d,]+ bytes\): ", done.stdout)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["toy.fmi"]


def test_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(IndexWriteError, match="No such file or directory"):
        toy_index().save(tmp_path / "no" / "x.fmi")


ENDLESS_SAVES = """
import sys
from gemkr.fm_index import FMIndex
one, two = (FMIndex.build([[k % m, k % 89] for k in range(3000)]) for m in (11, 97))
print("ready", flush=True)
while True:
    one.save(sys.argv[1])
    two.save(sys.argv[1])
"""


def test_kill_9_during_writes_leaves_a_whole_file(tmp_path: Path):
    path = tmp_path / "x.fmi"
    hashes = {FMIndex.build([[k % m, k % 89] for k in range(3000)]).corpus_hash for m in (11, 97)}
    for seed in range(4):
        with subprocess.Popen([sys.executable, "-c", ENDLESS_SAVES, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while not path.exists():
                time.sleep(0.001)
            time.sleep(random.Random(seed).random() * 0.05)
            writer.send_signal(signal.SIGKILL)
        assert FMIndex.load(path, verify=True).corpus_hash in hashes


@pytest.mark.parametrize(
    ("docs", "options", "message"),
    [
        ([[1], [2, -3]], {}, "document 1 holds token -3"),
        ([[1, 9]], {"vocab_size": 9}, "document 0 holds token 9, outside the vocabulary of 9"),
        ([[2**31]], {}, "largest token id"),
        ([[2**70]], {}, "largest token id"),
        ([[1.5]], {}, "document 0 holds 1.5"),
        ([np.array([1.5])], {}, "array of float64"),
        ([np.zeros((2, 2), int)], {}, "2 dimensions"),
        (["text"], {}, "document 0 is a str"),
        ([5], {}, "document 0 is a int"),
        ([[1]], {"doc_ids": ["a", "b"]}, "1 documents but 2 document ids"),
        (
            [[1], [1], [2]],
            {"doc_ids": ["a", "b", "a"]},
            "document id 'a' is given to document 0 and to document 2",
        ),
        ([[1]], {"doc_ids": [7]}, "document id 7 is a int"),
        ([[1]], {"doc_ids": ["\ud800"]}, "UTF-8"),
        ([[1]], {"sample_rate": 0}, "sample_rate"),
        ([[1]], {"threads": -1}, "threads"),
        ([[1]], {"vocab_size": 0}, "vocab_size is 0"),
    ],
)
def test_builds_that_cannot_be(docs, options, message):
    with pytest.raises(IndexBuildError, match=message):
        FMIndex.build(docs, **options)


def test_flat_offsets_must_fit():
    for offsets in ([0, 3], [1, 2], [0, 2, 1, 2], []):
        with pytest.raises(IndexBuildError, match="offsets"):
            FMIndex.build_flat(np.array([1, 2]), np.array(offsets, np.int64))


def test_progress_is_told_and_may_stop_a_build():
    stages = []
    FMIndex.build([[1, 2, 3]] * 9, progress=lambda stage, share: stages.append((stage, share)))
    assert stages[-1] == ("done", 1.0)

    def stop(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FMIndex.build([[1, 2, 3]] * 9, progress=stop)


def test_memory_limit_stops_before_the_work():
    needed = estimate_build(4, 1)["peak_bytes"]
    FMIndex.build([[1, 2, 3]], memory_limit=needed)
    with pytest.raises(IndexBuildError, match=f"about {needed} bytes, the limit is {needed - 1}"):
        FMIndex.build([[1, 2, 3]], memory_limit=needed - 1)


def test_wrong_tokenizer_is_told_with_both_fingerprints():
    index = toy_index()
    index.check_tokenizer(FakeTokenizer())
    with pytest.raises(TokenizerMismatchError, match=r"toy:1.*toy:2"):
        index.check_tokenizer(FakeTokenizer("toy:2"))
    with pytest.raises(TokenizerMismatchError, match=r"50.*40"):
        index.check_tokenizer(FakeTokenizer(vocab_size=40))
    FMIndex.build([[1]]).check_tokenizer(FakeTokenizer("any"))


def test_info_tells_the_price_of_each_part():
    index = toy_index(document_array=True)
    info = index.info()
    total = 8 * sum(info["sections"].values()) / index.n_tokens
    assert sum(info["bits_per_token"].values()) == pytest.approx(total, abs=0.01)
    assert info["bits_per_token"]["document array"] > 0
    assert toy_index().info()["bits_per_token"]["document array"] == 0


def test_threads_may_change_while_queries_run():
    from threading import Thread

    index = toy_index()
    lo, hi = np.arange(index.n_rows - 1), np.arange(1, index.n_rows)
    want = [a.tolist() for a in index.next_tokens_many(lo, hi)]
    wrong = []

    def ask() -> None:
        wrong.extend(None for _ in range(60) if [a.tolist() for a in index.next_tokens_many(lo, hi)] != want)

    reader = Thread(target=ask)
    reader.start()
    for threads in range(1, 40):
        index.threads = threads % 4 + 1
    reader.join()
    assert not wrong


def test_hostile_arguments_are_refused():
    index = toy_index()
    n = index.n_rows
    rows = np.array([0])
    bad = [
        lambda: index.next_tokens(Span(0, n + 1)),
        lambda: index.extend(Span(n + 1, n + 1), 1),
        lambda: index.count_ends(Span(0, 2**62)),
        lambda: index.documents(Span(0, n + 1)),
        lambda: index.documents(index.root, -1),
        lambda: index.locate(Span(0, n, 99)),
        lambda: index.extract(len(index)),
        lambda: index.extract(-1),
        lambda: index.extract(0, -1),
        lambda: index.extract(0, 0, -1),
        lambda: index.extend_many(rows, rows + n + 1, rows),
        lambda: index.extend_many(rows - 1, rows, rows),
        lambda: index.extend_many(rows + 2, rows, rows),
        lambda: index.extend_many(rows, rows, np.array([1, 2])),
        lambda: index.next_tokens_many(rows, np.array([[1]])),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 1), np.uint32)),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 2), np.int64)),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 4), np.uint32)[:, ::2]),
        lambda: index.locate_rows(np.array([n])),
        lambda: index.docs_of_rows(np.array([-1])),
        lambda: index._use_kernels("none"),
    ]
    for call in bad:
        with pytest.raises(IndexQueryError):
            call()
    for call in (
        lambda: index.extend(index.root, "a"),
        lambda: index.extend((0, 1), 1),
        lambda: index.extend(index.root),
        lambda: index.search(3),
        lambda: index.search(["a"]),
        lambda: Span("a", 2),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (lambda: Span(2, 1), lambda: Span(-1, 1), lambda: Span(0, 1, -1)):
        with pytest.raises(ValueError):
            call()
    assert not index.extend(index.root, -1)
    assert not index.extend(index.root, 2**80)
    assert index.search(np.array([1])) == index.search([1])
    locked = np.zeros((1, 2), np.uint32)
    locked.flags.writeable = False
    with pytest.raises(IndexQueryError, match="writable"):
        index.fill_mask(rows, rows, locked)


def test_unopened_index_is_an_error():
    with pytest.raises((FMIndexError, TypeError)):
        FMIndex.__new__(FMIndex).search([1])


def test_answers_are_the_same_in_a_fork_and_in_threads():
    from concurrent.futures import ThreadPoolExecutor

    index = toy_index()
    index.threads = 3
    lo, hi = np.arange(index.n_rows - 1), np.arange(1, index.n_rows)

    def ask(_: int) -> bytes:
        out = np.empty((len(lo), index.mask_words), np.uint32)
        index.fill_mask(lo, hi, out)
        return out.tobytes() + b"".join(a.tobytes() for a in index.next_tokens_many(lo, hi))

    want = ask(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(40))) == {want}
    if (child := os.fork()) == 0:
        os._exit(0 if ask(0) == want else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
