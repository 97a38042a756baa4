"""Collections: what is found after every change is what an index of the live documents finds; bad input in one sentence."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_text import TEXTS, documents, train_sentencepiece

from gemkr.collection import policy
from gemkr.collection.collection import Collection
from gemkr.collection.manifest import FILE, PARTS
from gemkr.data.corpus import read_corpus
from gemkr.errors import DataError, GemkrError, TokenizerError
from gemkr.files import lock
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.types import Document


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture
def collection(tmp_path: Path, tokenizer: Path) -> Collection:
    return Collection.create(tmp_path / "c", tokenizer=tokenizer, documents=documents())


def ids(collection: Collection) -> list[str]:
    return [document.doc_id for document in collection.documents]


def parts(collection: Collection) -> list[str]:
    return sorted(path.name for path in (collection.folder / PARTS).iterdir())


def test_a_new_collection_is_one_plain_index(collection: Collection) -> None:
    assert isinstance(collection.index, FMIndex)
    assert (len(collection), collection.generation) == (8, 1)
    assert list(collection.documents) == documents()
    assert collection.documents[2:4] == documents()[2:4]
    assert collection.documents.by_id("d5").text == TEXTS[5]
    assert "d5" in collection.documents
    assert "x" not in collection.documents
    assert collection.index.search(collection.tokenizer.encode("Tokyo")).count == 3
    collection.verify()


def test_add_delete_update_compact(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "SMALL_TOKENS", 0)
    first = collection.index
    collection.add([Document("new", "The capital of Peru is Lima.", "Lima"), Document("pic", image="p.jpg")])
    collection.delete(["d1", "d3"])
    collection.update([Document("d0", "Paris hosted the Games.", image="x.png"), Document("more", "honey")])
    expected = ["d2", "d4", "d5", "d6", "d7", "new", "pic", "d0", "more"]
    assert ids(collection) == list(collection.index.doc_ids) == expected
    assert collection.documents.by_id("d0") == Document("d0", "Paris hosted the Games.", image="x.png")
    assert collection.documents.by_id("pic") == Document("pic", image="p.jpg")
    assert collection.documents.number("more") == 8
    assert isinstance(collection.index, SegmentedIndex)
    token = collection.tokenizer.encode
    assert collection.index.search(token("capital of")).count == 1
    assert collection.index.search(token("pony tail")).count == 0
    collection.verify()
    collection.compact()
    assert isinstance(collection.index, FMIndex)
    assert ids(collection) == list(collection.index.doc_ids) == expected
    assert collection.index.search(token("capital of")).count == 1
    assert first.search(token("capital of")).count == 2, "a reader keeps its generation"
    assert len(parts(collection)) == 1
    assert collection.generation == 5
    collection.compact()
    assert collection.generation == 5, "nothing was left to do"
    collection.verify()


def test_an_empty_collection_grows_and_shrinks(tmp_path: Path, tokenizer: Path) -> None:
    collection = Collection.create(tmp_path / "c", tokenizer=tokenizer)
    assert (len(collection), ids(collection), collection.index.root.count) == (0, [], 0)
    collection.add([])
    assert collection.generation == 1
    collection.add(documents())
    collection.delete([f"d{i}" for i in range(8)])
    assert (len(collection), ids(collection), parts(collection)) == (0, [], [])
    collection.add(documents()[:2])
    assert ids(collection) == ["d0", "d1"]


def test_a_reader_keeps_its_generation_until_it_is_refreshed(collection: Collection) -> None:
    reader = Collection.open(collection.folder)
    collection.delete(["d0"])
    collection.compact()
    assert ids(reader) == [f"d{i}" for i in range(8)]
    assert reader.documents[0].text == TEXTS[0]
    assert reader.refresh() == collection.generation
    assert ids(reader) == ids(collection)


def test_many_small_additions_leave_few_segments(collection: Collection) -> None:
    for number in range(10):
        collection.add([Document(f"n{number}", f"honey number {number}")])
        collection.delete([f"n{number - 1}"] if number % 2 else [])
    assert collection.info()["segments"] <= 3
    assert collection.info()["negative segments"] <= 3
    assert ids(collection)[8:] == [f"n{n}" for n in range(10) if n % 2]


def test_the_index_equals_that_of_the_corpus_file(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "c.csv").write_text("kid,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(TEXTS)))
    made = Collection.create(
        tmp_path / "c", tokenizer=tokenizer, documents=read_corpus(tmp_path / "c.csv"), processes=1
    )
    made.delete(["3"])
    made.add([Document("3", TEXTS[3])])
    made.compact()
    order = [0, 1, 2, 4, 5, 6, 7, 3]
    fresh = FMIndex.build(
        [made.tokenizer.encode(TEXTS[i]) for i in order], [str(i) for i in order], tokenizer=made.tokenizer
    )
    assert made.index.corpus_hash == fresh.corpus_hash


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda c: c.add([Document("y", "z"), Document("d1", "x")]), "'d1' is already in the collection"),
        (lambda c: c.add([Document("y", "z"), Document("y", "x")]), "'y' is given twice"),
        (lambda c: c.add([Document("y", "z"), Document("e")]), "neither a text nor a picture"),
        (lambda c: c.add([Document("a b", "z")]), "holds white space"),
        (lambda c: c.delete(["d1", "nope", "d2"]), "holds no document 'nope', nothing was deleted"),
        (lambda c: c.delete("d1"), "must be a list"),
        (lambda c: c.delete(["\ud800"]), "holds no document"),
        (lambda c: c.update(_broken()), "half way"),
    ],
)
def test_a_refused_change_changes_nothing(collection: Collection, action, sentence: str) -> None:
    before = parts(collection)
    with pytest.raises(DataError, match=sentence):
        action(collection)
    assert parts(collection) == before
    assert Collection.open(collection.folder).generation == 1
    assert ids(Collection.open(collection.folder)) == [f"d{i}" for i in range(8)]


def _broken() -> Iterator[Document]:
    yield Document("d0", "half a change")
    raise DataError("half way")


def test_missing_ids_can_be_ignored(collection: Collection) -> None:
    collection.delete(["d1", "nope", "d1"], ignore_missing=True)
    assert len(collection) == 7
    generation = collection.generation
    collection.delete(["nope"], ignore_missing=True)
    assert collection.generation == generation


def test_a_second_writer_is_told(collection: Collection) -> None:
    with (
        lock(collection.folder / ".lock"),
        pytest.raises(DataError, match="another process is changing the collection"),
    ):
        collection.delete(["d1"])
    collection.delete(["d1"])


def test_an_interrupted_change_is_cleared_away_by_the_next(collection: Collection) -> None:
    stray = collection.folder / PARTS / "000777"
    shutil.copytree(collection.folder / PARTS / parts(collection)[0], stray)
    (collection.folder / ".collection.json.123.part").write_text("half")
    Collection.open(collection.folder).verify()
    collection.delete(["d1"])
    assert not stray.exists()
    assert sorted(p.name for p in collection.folder.iterdir()) == [".lock", FILE, PARTS]


def test_create_refuses_a_folder_in_use(tmp_path: Path, tokenizer: Path, collection: Collection) -> None:
    with pytest.raises(DataError, match="is a collection already"):
        Collection.create(collection.folder, tokenizer=tokenizer)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(DataError, match="holds other files"):
        Collection.create(tmp_path / "other", tokenizer=tokenizer)
    with pytest.raises(DataError, match="given twice"):
        Collection.create(tmp_path / "new", tokenizer=tokenizer, documents=documents() + documents())
    with pytest.raises(DataError, match="is no collection"):
        Collection.open(tmp_path / "new")
    assert len(Collection.create(tmp_path / "new", tokenizer=tokenizer, documents=documents())) == 8


def test_a_tokenizer_that_is_gone_or_another_is_refused(
    tmp_path: Path, tokenizer: Path, collection: Collection
) -> None:
    moved = Collection.open(collection.folder, tokenizer=tmp_path / "gone.model")
    moved.delete(["d0"])
    with pytest.raises(TokenizerError, match=r"does not exist; name where it is \(--tokenizer\)"):
        moved.add([Document("x", "y")])
    other = train_sentencepiece(tmp_path / "other.model", 400)
    with pytest.raises(TokenizerError, match="is not the one that the collection"):
        Collection.open(collection.folder, tokenizer=other).add([Document("x", "y")])
    foreign = Collection.create(tmp_path / "f", tokenizer=other, documents=documents())
    target = collection.folder / PARTS / parts(collection)[0] / "index.fmi"
    shutil.copy(foreign.folder / PARTS / parts(foreign)[0] / "index.fmi", target)
    edit(
        collection.folder,
        lambda m: m["segments"][0]["files"]["index.fmi"].update(bytes=target.stat().st_size),
    )
    with pytest.raises(DataError, match="built with another tokenizer"):
        Collection.open(collection.folder)


def edit(folder: Path, alter) -> None:
    """Change the manifest and its checksum."""
    from gemkr.collection.manifest import checksum

    text = json.loads((folder / FILE).read_text())
    alter(text)
    body = {k: v for k, v in text.items() if k not in ("format", "version", "checksum")}
    (folder / FILE).write_text(json.dumps(text | {"checksum": checksum(body)}))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("000001", "index.fmi"),
        ("000001", "texts.bin"),
        ("000001", "bounds.npy"),
        ("000001", "ids.npy"),
        ("000002", "index.fmi"),
        ("000002", "places.npy"),
        ("000003", "places.npy"),
    ],
)
def test_a_damaged_part_is_named_and_nothing_is_served(collection: Collection, part: str, name: str) -> None:
    """Files of the segment, of the negative one, and of the list of deleted documents: places are refused when they are opened,
    whichever bit is wrong, the rest by `verify`."""
    collection.delete(["d1", "d4"])
    assert parts(collection) == ["000001", "000002", "000003"]
    path = collection.folder / PARTS / part / name
    whole = path.read_bytes()

    def refused(fault: str, act=Collection.open) -> None:
        with pytest.raises(DataError, match=f"part {part} .* is damaged: {name} {fault}"):
            act(collection.folder)

    path.write_bytes(whole[:-1])
    refused("has")
    path.unlink()
    refused("cannot be read")
    small = name == "places.npy"
    for place in range(len(whole)) if small else [len(whole) // 2]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        act = Collection.open if small else lambda folder: Collection.open(folder).verify()
        refused("does not fit its checksum", act)
    path.write_bytes(whole)
    Collection.open(collection.folder).verify()


def test_a_missing_negative_part_is_named(collection: Collection) -> None:
    collection.delete(["d1"])
    for part in ("000002", "000003"):
        kept = collection.folder / part
        (collection.folder / PARTS / part).rename(kept)
        with pytest.raises(DataError, match=f"part {part} .* cannot be read"):
            Collection.open(collection.folder)
        kept.rename(collection.folder / PARTS / part)
    assert len(Collection.open(collection.folder)) == 7


def test_a_merge_of_a_damaged_part_is_refused(collection: Collection) -> None:
    """A merged segment has new checksums, under which nobody would find the damage."""
    collection.delete(["d1"])
    before = parts(collection)
    path = collection.folder / PARTS / before[0] / "texts.bin"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"e", b"a", 1))
    for merge in (collection.compact, lambda: collection.add([Document("n", "honey never spoils")])):
        with pytest.raises(
            DataError, match=r"part 000001 .* is damaged: texts\.bin does not fit its checksum"
        ):
            merge()
    assert parts(collection) == before
    path.write_bytes(whole)
    collection.compact()
    collection.verify()


def test_a_manifest_of_a_newer_version_or_damaged_is_refused(collection: Collection) -> None:
    edit(collection.folder, lambda text: text.update(version=2))
    with pytest.raises(DataError, match="has format version 2, this gemkr reads 1"):
        Collection.open(collection.folder)
    edit(collection.folder, lambda text: text.update(version=1))
    text = (collection.folder / FILE).read_text()
    for bad in (text.replace('"documents": 8', '"documents": 9'), text[:-20], "[]", ""):
        (collection.folder / FILE).write_text(bad)
        with pytest.raises(DataError, match=r"damaged|not the manifest"):
            Collection.open(collection.folder)


def test_killed_writers_leave_the_old_or_the_new_generation(tmp_path: Path) -> None:
    """A few of the kills of `kill_loop.py`, in a process without threads, and a reader beside them."""
    command = [sys.executable, str(Path(__file__).with_name("kill_loop.py")), str(tmp_path)]
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [*command, "--kills", "6", "--reads", "100", "--builds", "4"],
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("6 killed")


@pytest.mark.parametrize("most", [200, 1000, 3000])
def test_a_full_disk_leaves_the_old_generation(collection: Collection, most: int) -> None:
    """No file may grow beyond a limit, as if the disk were full."""
    before = parts(collection)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        with pytest.raises(GemkrError, match=r"File too large"):
            collection.add([Document(f"n{i}", "honey never spoils " * 4) for i in range(40)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert parts(collection) == before
    again = Collection.open(collection.folder)
    again.verify()
    assert (again.generation, len(again)) == (1, 8)
