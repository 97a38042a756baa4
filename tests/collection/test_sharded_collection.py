"""A folder of shards: made, changed and searched as one collection, through a configuration too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from shard_steps import as_version_1
from toy_text import TEXTS, train_sentencepiece

from gemkr.cli import main
from gemkr.cli.ask import as_text
from gemkr.collection import change, shard_folder
from gemkr.collection.collection import Collection
from gemkr.collection.manifest import is_collection
from gemkr.collection.opening import open_collection
from gemkr.collection.shard_folder import shard_of
from gemkr.collection.sharded import ShardedCollection
from gemkr.config.section import Section
from gemkr.data.records import from_record, to_record
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DataError, ShardError
from gemkr.evaluation.config import EvalConfig
from gemkr.files import lock
from gemkr.fm_index import FMIndex
from gemkr.retrievers.compose import RETRIEVERS
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.scorers.bm25 import BM25
from gemkr.serve.service import Service
from gemkr.testing import RandomLM
from gemkr.types import Document, Query

WORDS = [word for text in TEXTS for word in text.split()]


def documents(count: int, first: int = 0) -> list[Document]:
    rng = np.random.default_rng(count + first)
    return [
        Document(f"p{first + i}", " ".join(rng.choice(WORDS, 9)), "a title" if i % 3 else "")
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")


@pytest.fixture(scope="module")
def made(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of 40 documents, for tests that leave them as they are."""
    folder = tmp_path_factory.mktemp("made") / "wiki"
    ShardedCollection.create(folder, 2, tokenizer=tokenizer, documents=documents(40), processes=1)
    return folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> ShardedCollection:
    subprocess.run(["cp", "-r", made, tmp_path / "wiki"], check=True)
    return ShardedCollection.open(tmp_path / "wiki")


def sections(index: Path) -> dict[str, Section]:
    return {"bm25": RETRIEVERS.read("bm25", "retrievers.bm25")}


def retriever(index: object, shards: ShardedCollection, second: BM25 | None) -> GenerativeRetriever:
    codes = shards.tokenizer
    return GenerativeRetriever(
        RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0),
        index,
        codes,
        lambda q: q.question,
        DecodingConfig(beam_size=4, groups=2, max_tokens=3),
        ScoringConfig(),
        second,
    )


def test_a_configuration_ranks_as_one_index_does_and_a_dead_shard_is_left_out_or_named(made: Path) -> None:
    sources = EvalConfig(corpus=str(made), retrievers=sections(made), partial=True).sources()
    shards = sources.collection(made)
    index = sources.index(made)
    live = list(sources.documents)
    assert {d.doc_id: d for d in live} == {d.doc_id: d for d in documents(40)}
    assert [sources.documents.number(d.doc_id) for d in live] == list(range(40))
    fresh = FMIndex.build(
        [shards.tokenizer.encode(d.contents) for d in live],
        [d.doc_id for d in live],
        tokenizer=shards.tokenizer,
    )
    queries = [Query("1", "honey"), Query("2", "tokyo")]
    ours, theirs = (retriever(each, shards, sources.bm25) for each in (index, fresh))
    found = list(ours.retrieve(queries, 8))
    assert [r.hits for r in found] == [r.hits for r in theirs.retrieve(queries, 8)]
    assert found[0].hits
    assert found[0].searched == 1

    index._calls.shards[1].process.kill()
    left = ours.retrieve(queries, 8)
    first = next(left)
    share = len(shards.shards[0].documents) / 40
    assert first.searched == pytest.approx(share)
    assert from_record(to_record(first)).searched == first.searched
    assert as_text(first)[0] == f"{share:.0%} of the corpus was searched, shards are lost"
    assert {shard_of([hit.doc_id], 2)[0] for hit in first.hits} == {0}
    index._calls.shards[0].process.kill()
    with pytest.raises(ShardError, match="no shard is left"):
        list(ours.retrieve([Query("3", "giraffe")], 8))

    whole = ShardedCollection.open(made)
    whole.index._calls.shards[1].process.kill()
    with pytest.raises(ShardError, match=r"the shard .*shard-001 died"):
        list(retriever(whole.index, whole, None).retrieve(queries, 8))


def test_changes_go_to_the_shard_of_each_document(shards: ShardedCollection) -> None:
    shards.add(documents(10, first=40))
    shards.update([Document("p3", "honey honey"), Document("new", "tokyo")])
    shards.delete(["p0", "p1", "p2", "p49"])
    kept = {d.doc_id: d for d in [*documents(40), *documents(10, first=40)]}
    expected = {i: d for i, d in kept.items() if i not in ("p0", "p1", "p2", "p49")}
    expected |= {"p3": Document("p3", "honey honey"), "new": Document("new", "tokyo")}
    for each in (shards, ShardedCollection.open(shards.folder)):
        assert {d.doc_id: d for d in each.documents} == expected
        assert all(each.documents.by_id(i) == d for i, d in expected.items())
    shards.compact()
    shards.verify()
    info = shards.info()
    assert (info["documents"], info["deleted"], info["shards"]) == (len(expected), 0, 2)
    assert info["shard-000"] + info["shard-001"] == len(expected)
    assert min(info["shard-000"], info["shard-001"]) > 0


def test_what_is_refused_changes_no_shard(shards: ShardedCollection) -> None:
    before = shards.fingerprint, shards.generation
    with pytest.raises(DataError, match="'p7' is already in"):
        shards.add([*documents(10, first=50), Document("p7", "two")])
    with pytest.raises(DataError, match="wiki holds no document 'nope'"):
        shards.delete(["p0", "nope", "p1"])
    with pytest.raises(DataError, match="given twice"):
        shards.update([Document("q", "one"), Document("r", "one"), Document("q", "two")])
    assert "nope" not in shards.documents
    with pytest.raises(DataError, match="'nope' is not among the 40 documents"):
        shards.documents.by_id("nope")
    opened = ShardedCollection.open(shards.folder)
    assert (opened.fingerprint, opened.generation) == before
    shards.delete(["nope", "p0"], ignore_missing=True)
    assert len(shards) == 39


def test_a_document_in_a_foreign_shard_is_found_by_verify(
    shards: ShardedCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shard_of(["x"], 2)[0]
    monkeypatch.setattr(shard_folder, "shard_of", lambda ids, shards: [1 - home])
    shards.add([Document("x", "tokyo")])
    with pytest.raises(DataError, match="'x' lies in"):
        shards.verify()


def test_a_folder_appears_whole_or_not_at_all(tokenizer: Path, tmp_path: Path) -> None:
    bad = [*documents(5), Document("p0", "again")]
    with pytest.raises(DataError, match="'p0' is given twice"):
        ShardedCollection.create(tmp_path / "c", 2, tokenizer=tokenizer, documents=bad)
    assert list(tmp_path.iterdir()) == []
    code = (
        "import os, signal, sys\nfrom gemkr.collection import shard_folder\n"
        "real = shard_folder._build\n"
        "def build(*args):\n    real(*args)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "shard_folder._build = build\n"
        "if __name__ == '__main__':\n"
        "    from pathlib import Path\n"
        "    shard_folder.create_shards(Path(sys.argv[1]), 1, tokenizer=sys.argv[2])\n"
    )
    (tmp_path / "killed.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, tmp_path / "killed.py", tmp_path / "c", tokenizer], env=environment, check=False
    )
    assert ended.returncode == -9
    assert [p.name for p in tmp_path.iterdir() if "killed" not in p.name] == [".c.part"]
    made = ShardedCollection.create(tmp_path / "c", 2, tokenizer=tokenizer)
    assert (len(made), sorted(p.name for p in tmp_path.iterdir())) == (0, ["c", "killed.py"])
    with pytest.raises(DataError, match="is a collection already"):
        ShardedCollection.create(tmp_path / "c", 2, tokenizer=tokenizer)


def test_a_missing_shard_is_named(shards: ShardedCollection) -> None:
    subprocess.run(["rm", "-r", shards.folder / "shard-001"], check=True)
    with pytest.raises(DataError, match=r"the shard .*shard-001 is missing"):
        open_collection(shards.folder)


def test_a_shard_by_itself_is_refused(shards: ShardedCollection, tokenizer: Path) -> None:
    for act in (Collection.open, lambda folder: Collection.create(folder, tokenizer=tokenizer)):
        with pytest.raises(DataError, match=r"shard-000 is a shard of the collection .*wiki; name that one"):
            act(shards.folder / "shard-000")
    shards.verify()


def test_a_damaged_or_newer_manifest_is_refused(shards: ShardedCollection) -> None:
    path = shards.folder / "shards.json"
    whole = path.read_text()
    for text, fault in (
        (whole.replace('"generation": 1', '"generation": 2', 1), r"shards\.json does not fit its checksum"),
        (whole[:-9], r"shards\.json cannot be read"),
        ("{}", "is not the manifest"),
        (whole.replace('"version": 2', '"version": 3'), "has format version 3, this gemkr reads 2"),
        ('{"format": "gemkr shards", "version": 1, "shards": []}', "it names no shards"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=fault):
            open_collection(shards.folder)


def test_shards_with_manifests_of_their_own_are_read_and_the_first_change_joins_them(
    shards: ShardedCollection,
) -> None:
    as_version_1(shards.folder)
    old = ShardedCollection.open(shards.folder)
    assert (old.fingerprint, old.generation) == (shards.fingerprint, shards.generation)
    assert len(Collection.open(shards.folder / "shard-000")) == len(shards.shards[0].documents)
    old.verify()
    old.delete(["nope"], ignore_missing=True)
    assert is_collection(shards.folder / "shard-000"), "nothing was changed"
    old.delete(["p0"])
    assert shards.refresh() == old.generation == 3
    assert {d.doc_id: d for d in shards.documents} == {d.doc_id: d for d in documents(40)[1:]}
    assert [p.name for p in (shards.folder / "shard-000").iterdir()] == ["parts"]
    shards.verify()


def test_processes_open_the_generation_that_was_opened_here(shards: ShardedCollection) -> None:
    other = ShardedCollection.open(shards.folder)
    other.delete(["p0"])
    assert len(shards.index) == 40
    late = ShardedCollection.open(shards.folder)
    other.compact()
    assert len(shards.index) == 40, "its processes hold what they have opened"
    with pytest.raises(DataError, match="was changed while it was opened"):
        _ = late.index


@pytest.mark.parametrize(
    "given",
    ["--version 1 --every 7", "--every 2 --kills 4", "--compact --every 3 --kills 4"],
)
def test_a_change_that_ends_anywhere_is_seen_in_all_shards_or_in_none(tmp_path: Path, given: str) -> None:
    """Many steps of `shard_steps.py`, and a few kills, in a process without threads."""
    command = [sys.executable, str(Path(__file__).with_name("shard_steps.py")), str(tmp_path)]
    root = Path(__file__).parents[2]
    found = subprocess.run(
        [*command, *given.split()],
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    ended, old, new = map(int, re.findall(r"\d+", found.stdout))
    assert ended == old + new
    assert new > 2
    assert old > 2 or "--compact" in given, "a merge changes no document"


def test_a_second_writer_is_told_before_it_reads_documents(shards: ShardedCollection) -> None:
    def never() -> Iterator[Document]:
        raise AssertionError("documents were read")
        yield

    with lock(shards.folder / ".lock"), pytest.raises(DataError, match="another process is changing"):
        shards.add(never())


def test_a_full_disk_in_one_shard_changes_none(
    shards: ShardedCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = shards.fingerprint, []
    real = change.sync_part

    def full(folder: Path, part: object) -> None:
        calls.append(folder)
        if folder.name == "shard-001":
            raise OSError(28, "No space left on device")
        real(folder, part)

    monkeypatch.setattr(change, "sync_part", full)
    with pytest.raises(DataError, match=r"wiki cannot be written \(No space left.*stays at generation 2"):
        shards.add(documents(10, first=50))
    assert {folder.name for folder in calls} == {"shard-000", "shard-001"}
    assert ShardedCollection.open(shards.folder).fingerprint == before
    for shard in shards.shards:
        names = {part.name for part in shard.manifest.parts}
        assert {path.name for path in (shard.folder / "parts").iterdir()} == names


def test_the_command_and_the_service(
    made: Path, tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["cp", "-r", made, tmp_path / "wiki"], check=True)
    wiki = str(tmp_path / "wiki")
    assert main(["collection", "delete", wiki, "p1"]) == 0
    assert main(["collection", "info", wiki]) == 0
    assert main(["collection", "verify", wiki]) == 0
    assert "shards                 2\n" in capsys.readouterr().out
    assert main(["collection", "create", wiki, "--shards", "2", "--tokenizer", str(tokenizer)]) == 1
    assert "is a collection already" in capsys.readouterr().err
    service = Service(EvalConfig(corpus=wiki, retrievers=sections(tmp_path / "wiki")))
    assert service.add([Document("new", "zebra")])["documents"] == 40
    assert service.delete(["new"])["documents"] == 39
