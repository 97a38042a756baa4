"""Merges beside changes: what the policy names is merged, others add and delete meanwhile, and one merge runs at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from toy_text import TEXTS, documents, train_sentencepiece

from gemkr.cli import main
from gemkr.collection import commit, merging, policy
from gemkr.collection.collection import Collection
from gemkr.collection.manifest import OwnManifest
from gemkr.collection.policy import due, tail
from gemkr.collection.sharded import ShardedCollection
from gemkr.errors import DataError
from gemkr.files import lock
from gemkr.types import Document

BIG = policy.SMALL_TOKENS


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture
def collection(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """Eight documents in four segments."""
    monkeypatch.setattr(policy, "LARGEST_OF_ADD", 0)
    monkeypatch.setattr(commit, "PATIENCE", 0.0)
    made = Collection.create(tmp_path / "c", tokenizer=tokenizer, documents=documents()[:2])
    for start in (2, 4, 6):
        made.add(documents()[start : start + 2])
    return made


def ids(collection: Collection) -> list[str]:
    return [document.doc_id for document in collection.documents]


def test_the_policy_merges_neighbours_at_the_end_while_they_are_not_twice_as_large() -> None:
    assert list(tail([])) == []
    assert list(tail([5])) == [0]
    assert list(tail([BIG * 9, BIG * 3, BIG])) == [2]
    assert list(tail([BIG * 9, BIG * 3, BIG, BIG])) == [0, 1, 2, 3]
    assert list(tail([BIG * 11, BIG * 3, BIG, BIG])) == [1, 2, 3]
    assert list(tail([BIG * 11, BIG * 3, BIG, BIG], most=3 * BIG)) == [2, 3]
    assert list(tail([BIG, BIG], most=3 * BIG, beside=[2 * BIG, 0])) == [1]
    assert due([], [], []) is None
    assert due([BIG * 9, BIG], [90, 10], [0, 3]) is None
    assert due([BIG * 9, BIG], [90, 10], [31, 0]) == range(1)
    assert due([BIG, BIG], [10, 10], [9, 0]) == range(2)


def test_segments_stay_few_and_no_document_is_written_often() -> None:
    sizes: list[int] = []
    written = 0
    for _ in range(1000):
        sizes.append(BIG)
        while (chosen := due(sizes, sizes, [0] * len(sizes))) is not None:
            merged = sum(sizes[at] for at in chosen)
            written += merged
            sizes[chosen.start : chosen.stop] = [merged]
        assert len(sizes) <= 10
    assert written < 10 * 1000 * BIG


def test_changes_go_on_during_a_merge(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    collection.delete(["d1"])
    reader = Collection.open(collection.folder)
    real, seen = merging._merged, []

    def others(*args):
        other = Collection.open(collection.folder)
        other.add([Document("new", "honey"), Document("more", "tokyo")])
        other.delete(["d2", "d5", "new"])
        part = real(*args)
        other.delete(["d7"])
        other.update([Document("d0", "again")])
        with pytest.raises(DataError, match="another process is merging segments of the collection"):
            other.compact()
        seen.append(ids(other))
        other.verify()
        return part

    monkeypatch.setattr(merging, "_merged", others)
    collection.compact()
    assert seen == [["d3", "d4", "d6", "more", "d0"]]
    assert ids(collection) == list(collection.index.doc_ids) == seen[0]
    assert ids(reader) == ["d0", "d2", "d3", "d4", "d5", "d6", "d7"], "a reader keeps its generation"
    reader.verify()
    assert collection.index.search(collection.tokenizer.encode("Tokyo")).count == 2
    collection.verify()
    assert collection.info()["segments"] == 3
    assert not (collection.folder / merging.MERGING).exists()
    monkeypatch.undo()
    collection.compact()
    assert (collection.info()["segments"], ids(collection)) == (1, seen[0])


def test_all_documents_are_deleted_during_a_merge(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = merging._merged

    def others(*args):
        part = real(*args)
        Collection.open(collection.folder).delete(ids(collection))
        return part

    monkeypatch.setattr(merging, "_merged", others)
    collection.compact()
    assert (len(collection), ids(collection)) == (0, [])
    collection.add(documents()[:1])
    assert (ids(collection), collection.info()["segments"]) == (["d0"], 1)


def test_a_merge_needs_the_segments_that_it_has_begun_with(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of this gemkr takes them away."""
    real = merging._merged

    def older(*args):
        part = real(*args)
        with commit.changing(OwnManifest(collection.folder), lambda: [collection._now]) as (change,):
            change.merge(1, 3)
        return part

    monkeypatch.setattr(merging, "_merged", older)
    with pytest.raises(DataError, match="were merged by an older gemkr meanwhile"):
        collection.compact()
    collection.refresh()
    assert (ids(collection), collection.info()["segments"]) == ([f"d{i}" for i in range(8)], 3)
    collection.verify()


def test_what_a_stopped_merge_left_is_cleared_away(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(merging, "_merged", stop)
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **rest: None)
    with pytest.raises(KeyboardInterrupt):
        collection.compact()
    monkeypatch.undo()
    assert (collection.folder / merging.MERGING / "serials.json").exists()
    collection.delete(["d1"])
    assert not (collection.folder / merging.MERGING).exists()
    assert len(collection) == 7


def test_a_full_disk_during_a_merge_changes_nothing(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(merging, "_merged", full)
    before = collection.fingerprint
    with pytest.raises(DataError, match=r"cannot be merged \(No space left"):
        collection.compact()
    assert Collection.open(collection.folder).fingerprint == before
    assert not (collection.folder / merging.MERGING).exists()


def test_a_merge_is_told_of_a_writer_at_its_beginning(collection: Collection) -> None:
    with (
        lock(collection.folder / ".lock"),
        pytest.raises(DataError, match="another process is changing the collection"),
    ):
        collection.compact()


def test_the_command_merges_what_the_policy_names(
    collection: Collection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(collection.folder)
    assert collection.due
    assert main(["collection", "compact", folder, "--tiered", "--memory-limit", "1"]) == 0
    collection.refresh()
    assert (collection.info()["segments"], collection.due) == (1, False)
    monkeypatch.setattr(policy, "SMALL_TOKENS", 0)
    (collection.folder.parent / "one.csv").write_text("kid,text\nn,honey\n")
    capsys.readouterr()
    assert main(["collection", "add", folder, str(collection.folder.parent / "one.csv")]) == 0
    assert "merge" not in capsys.readouterr().out
    assert main(["collection", "compact", folder, "--tiered"]) == 0
    collection.refresh()
    assert collection.info()["segments"] == 2, "one is far larger than the other"
    assert main(["collection", "delete", folder, "d0", "d2", "d4"]) == 0
    assert "gemkr collection compact --tiered" in capsys.readouterr().out
    assert main(["collection", "compact", folder, "--tiered"]) == 0
    assert collection.refresh()
    assert (collection.info()["segments"], collection.info()["deleted"], collection.due) == (2, 0, False)


def test_shards_are_merged_one_by_one(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "LARGEST_OF_ADD", 0)
    shards = ShardedCollection.create(
        tmp_path / "s", 2, tokenizer=tokenizer, documents=documents(), processes=1
    )
    shards.add([Document(f"n{i}", text) for i, text in enumerate(TEXTS)])
    before = {document.doc_id for document in shards.documents}
    assert (shards.due, shards.info()["segments"]) == (True, 4)
    shards.compact(tiered=True)
    assert (shards.due, shards.info()["segments"]) == (False, 2)
    assert {document.doc_id for document in shards.documents} == before
    shards.verify()
