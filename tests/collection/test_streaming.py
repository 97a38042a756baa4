"""A collection is made in a stream: within the memory limit, with the bytes of one that is made in memory, each id once."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection import change, segment_writer, texts
from gemkr.collection.collection import Collection
from gemkr.collection.manifest import PARTS
from gemkr.data import spilled
from gemkr.data.spilled import DistinctIds, SpilledArray
from gemkr.errors import DataError
from gemkr.fm_index import FMIndex, collect, plan
from gemkr.fm_index.ids import hash_ids
from gemkr.text import tokenization
from gemkr.text.tokenizer import load_tokenizer
from gemkr.types import Document


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is done in pieces is done in pieces of a few documents."""
    monkeypatch.setattr(spilled, "HELD", 4)
    monkeypatch.setattr(spilled, "IDS_READ", 3)
    monkeypatch.setattr(texts, "WRITTEN", 5)
    monkeypatch.setattr(change, "CHUNK", 7)
    monkeypatch.setattr(segment_writer, "COPIED_DOCUMENTS", 3)
    monkeypatch.setattr(collect, "HELD_BYTES", 16)
    monkeypatch.setattr(tokenization, "CHUNK_CHARACTERS", 900)


def documents(count: int) -> list[Document]:
    rng = np.random.default_rng(count)
    made = []
    for n in range(count):
        text = " ".join(TEXTS[pick] for pick in rng.integers(0, len(TEXTS), rng.integers(0, 4)))
        image = f"picture {n}" if not text or n % 3 == 0 else None
        made.append(Document(f"dök{n}", text, "a title" if n % 2 else "", image))
    return made


def in_memory(folder: Path, tokenizer: Path, made: list[Document]) -> dict[str, bytes]:
    """The files of a segment as they were written when all of it lay in memory."""
    folder.mkdir()
    encoder = load_tokenizer(tokenizer)
    ids = [document.doc_id for document in made]
    encoded = encoder.encode_batch([document.contents for document in made])
    FMIndex.build(encoded, ids, tokenizer=encoder).save(folder / "index.fmi")
    fields = [part.encode() for d in made for part in (d.title, d.text, d.image or "")]
    (folder / "texts.bin").write_bytes(b"".join(fields))
    np.save(folder / "bounds.npy", np.cumsum([0, *map(len, fields)]))
    hashes = hash_ids(ids)
    order = np.argsort(hashes, kind="stable").astype(np.uint64)
    np.save(folder / "ids.npy", np.stack([hashes[order], order]))
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def the_part(folder: Path) -> dict[str, bytes]:
    (part,) = (folder / PARTS).iterdir()
    return contents(part)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [1, 7, 8, 40])
@pytest.mark.parametrize("limit", [None, 10**9])
def test_the_bytes_are_those_of_a_segment_made_in_memory(
    tmp_path: Path, tokenizer: Path, count: int, limit: int | None
) -> None:
    made = documents(count)
    collection = Collection.create(
        tmp_path / "c", tokenizer=tokenizer, documents=iter(made), memory_limit=limit
    )
    assert the_part(tmp_path / "c") == in_memory(tmp_path / "twin", tokenizer, made)
    assert list(collection.documents) == made


@pytest.mark.usefixtures("small_pieces")
def test_a_compacted_segment_has_the_bytes_of_a_new_one(tmp_path: Path, tokenizer: Path) -> None:
    made = documents(30)
    collection = Collection.create(tmp_path / "c", tokenizer=tokenizer, documents=made[:13])
    collection.add(made[13:], memory_limit=10**9)
    gone = [0, 2, 3, 4, 12, 13, 20, 29]
    collection.delete([made[n].doc_id for n in gone])
    collection.compact(memory_limit=10**9)
    live = [document for n, document in enumerate(made) if n not in gone]
    assert the_part(tmp_path / "c") == in_memory(tmp_path / "twin", tokenizer, live)


def test_an_id_that_is_given_twice_among_100_000_is_named(tmp_path: Path, tokenizer: Path) -> None:
    def given() -> Iterator[Document]:
        for n in range(100_000):
            yield Document(f"d{n}", "bee")
        yield Document("d777", "wasp")

    with pytest.raises(DataError, match=r"the document id 'd777' is given twice; nothing was added to"):
        Collection.create(tmp_path / "c", tokenizer=tokenizer, documents=given(), memory_limit=10**9)
    assert not list((tmp_path / "c" / PARTS).iterdir())
    with pytest.raises(DataError):
        Collection.open(tmp_path / "c")


def test_a_refused_addition_in_several_chunks_leaves_nothing(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = Collection.create(tmp_path / "c", tokenizer=tokenizer, documents=documents(5))
    before = the_part(collection.folder)
    monkeypatch.setattr(change, "CHUNK", 2)
    new = [Document(f"n{n}", "a bee") for n in range(9)]
    for step in (collection.add, collection.update):
        with pytest.raises(DataError, match="'n1' is given twice; nothing was added"):
            step([*new, Document("n1", "a wasp")])
        with pytest.raises(DataError, match="'x' has neither a text nor a picture; nothing was added"):
            step([*new, Document("x", " ")])
    assert the_part(collection.folder) == before


@pytest.mark.usefixtures("small_pieces")
def test_ids_are_told_apart_where_their_hashes_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spilled, "hash_ids", lambda ids: hash_ids(ids) % np.uint64(5))
    distinct = DistinctIds(tmp_path)
    for start in range(0, 60, 10):
        distinct.add([f"é{n}" for n in range(start, start + 10)])
    assert distinct.given_twice() is None
    distinct.add(["x", "é31"])
    assert distinct.given_twice() == "é31"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_a_spilled_array_is_saved_as_numpy_saves_it(tmp_path: Path, dtype: type) -> None:
    for count in (0, 1, 3, 4, 9, 40):
        values = np.arange(count).astype(dtype) * dtype(10**15)
        array = SpilledArray(tmp_path, dtype)
        array.extend(values[:3])
        for value in values[3:].tolist():
            array.append(value)
        assert len(array) == count
        np.testing.assert_array_equal(array.read(), values)
        array.save(tmp_path / "ours.npy")
        np.save(tmp_path / "numpy.npy", values)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_tokens_that_find_no_room_leave_the_old_generation(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the disk were full while tokens wait in a temporary file; texts are still in their buffer."""
    collection = Collection.create(tmp_path / "c", tokenizer=tokenizer, documents=documents(5))
    before = the_part(collection.folder)
    monkeypatch.setattr(collect, "HELD_BYTES", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written \(File too large.*stays at generation 1"):
            collection.add(
                [Document(f"n{n}", "honey never spoils " * 4) for n in range(40)], memory_limit=10**9
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert the_part(collection.folder) == before


def test_what_a_build_may_take_beside_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan._held() > 10_000_000
    monkeypatch.setattr(plan, "_held", lambda: 30)
    assert [plan.memory_left(limit) for limit in (100, 61, 50, 20)] == [70, 31, 30, 20]


CREATE = """
import sys
from gemkr.cli import main
assert main(sys.argv[1:]) == 0
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
@pytest.mark.parametrize("action", ["create", "add"])
def test_the_whole_command_keeps_to_the_limit(tmp_path: Path, tokenizer: Path, action: str) -> None:
    """300,000 short documents in 150 MB, with 10 for what Python keeps of the reading; in memory they took 240."""
    rng = np.random.default_rng(0)
    words = [f"w{word:x}" for word in range(5000)]
    with open(tmp_path / "c.csv", "w") as stream:
        stream.write("kid,text\n")
        for n, picks in enumerate(rng.integers(0, len(words), (300_000, 6)).tolist()):
            stream.write(f"d{n:07d},{' '.join([words[pick] for pick in picks])}\n")
    folder = str(tmp_path / "c")
    if action == "add":
        Collection.create(folder, tokenizer=tokenizer, documents=documents(5))
    given = ["--tokenizer", str(tokenizer), "--memory-limit", "0.15", "--threads", "2"]
    command = [sys.executable, "-c", CREATE, "collection", action, folder, str(tmp_path / "c.csv"), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Collection.open(folder)) >= 300_000
    assert int(done.stdout.splitlines()[-1]) < 160_000_000
