"""Shards built as tasks of a Ray cluster: the bytes that processes make, and what is left of a build that goes wrong."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_text import TEXTS, train_sentencepiece

from gemkr.cli import main
from gemkr.collection import cluster
from gemkr.collection.sharded import ShardedCollection
from gemkr.config.shards import RAY, ShardsConfig
from gemkr.errors import DataError, ShardError, TokenizerError
from gemkr.types import Document

WORDS = [word for text in TEXTS for word in text.split()]
ON_RAY = ShardsConfig(RAY)


def documents(count: int = 30) -> list[Document]:
    rng = np.random.default_rng(2)
    return [
        Document(f"p{i}", " ".join(rng.choice(WORDS, 9)), "a title" if i % 3 else "") for i in range(count)
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sentencepiece(tmp_path_factory.mktemp("tokenizer") / "t.model")


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    found = pytest.importorskip("ray", reason="ray is an extra: pip install 'gemkr[ray]'")
    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield found
    found.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_tasks_build_the_bytes_that_processes_build(
    tokenizer: Path, tmp_path: Path, ray: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = ShardedCollection.create("here", 3, tokenizer=tokenizer, documents=documents())
    rows = ({"_id": d.doc_id, "text": d.text, "title": d.title} for d in documents())
    Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["corpus.jsonl", "--tokenizer", os.path.relpath(tokenizer), "--shards", "3", "--ray", "local"]
    assert main(["collection", "create", "there", *given]) == 0
    assert contents(Path("there")) == contents(Path("here"))
    assert len(contents(Path("there"))) == 14
    there = ShardedCollection.open("there")
    there.verify()
    assert list(there.documents) == list(made.documents)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.jsonl", "here", "there"]


def test_faults_of_documents_and_tokenizer_are_named_and_leave_nothing(
    tokenizer: Path, tmp_path: Path, ray: object
) -> None:
    for wrong, fault in (
        ({"documents": [*documents(), Document("p3", "twice")]}, r"'p3' is given twice; .* to .*shard-00\d$"),
        ({"documents": [Document("p3", "one", image="")]}, "has an empty image id"),
    ):
        with pytest.raises(DataError, match=fault):
            ShardedCollection.create(tmp_path / "wiki", 2, tokenizer=tokenizer, built_by=ON_RAY, **wrong)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(TokenizerError, match="nowhere"):
        ShardedCollection.create(tmp_path / "wiki", 2, tokenizer=tmp_path / "nowhere", built_by=ON_RAY)
    assert list(tmp_path.iterdir()) == []


def busy(pids: Path, act: Callable[[], object]) -> Callable[..., None]:
    """In place of what builds a shard in the cluster: half a shard; then the second acts, the other builds on and on."""

    def building(folder: Path, file: Path, settings: dict) -> None:
        (folder / "parts").mkdir(parents=True)
        (pids / folder.name).write_text(str(os.getpid()))
        while len(list(pids.iterdir())) < 2:
            time.sleep(0.01)
        if folder.name == "shard-001":
            act()
        while True:
            (folder / "parts" / "half").write_text("a part")
            time.sleep(0.01)

    return building


def ended(pids: Path) -> bool:
    """Whether the processes are gone within a few seconds."""
    for _ in range(100):
        if not any(Path(f"/proc/{path.read_text()}").exists() for path in pids.iterdir()):
            return True
        time.sleep(0.1)
    return False


def test_a_killed_task_is_named_the_others_end_and_nothing_is_left(
    tokenizer: Path, tmp_path: Path, ray: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    monkeypatch.setattr(cluster, "_built", busy(pids, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    create = {"tokenizer": tokenizer, "documents": documents(), "built_by": ON_RAY}
    with pytest.raises(DataError, match=r"the task that built shard-001 was killed .* none were made; give"):
        ShardedCollection.create(tmp_path / "wiki", 2, **create)
    assert ended(pids)
    assert list(tmp_path.iterdir()) == [pids]
    monkeypatch.undo()
    assert len(ShardedCollection.create(tmp_path / "wiki", 2, **create)) == 30


def test_an_error_that_nobody_foresaw_names_the_shard(
    tokenizer: Path, tmp_path: Path, ray: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def building(folder: Path, file: Path, settings: dict) -> None:
        raise MemoryError(f"no room for {folder.name}")

    monkeypatch.setattr(cluster, "_built", building)
    with pytest.raises(
        ShardError, match=r"the shard shard-000 cannot .* \(MemoryError: no room for shard-000\)"
    ):
        ShardedCollection.create(tmp_path / "wiki", 1, tokenizer=tokenizer, built_by=ON_RAY)
    assert list(tmp_path.iterdir()) == []


def test_control_c_ends_the_tasks_and_leaves_nothing(
    tokenizer: Path, tmp_path: Path, ray: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    monkeypatch.setattr(cluster, "_built", busy(pids, lambda: None))

    def interrupt() -> None:
        while len(list(pids.iterdir())) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ShardedCollection.create(tmp_path / "wiki", 2, tokenizer=tokenizer, built_by=ON_RAY)
    assert ended(pids)
    assert list(tmp_path.iterdir()) == [pids]


def test_a_machine_that_does_not_see_the_folder_is_named(tmp_path: Path) -> None:
    fault = cluster._built(tmp_path / ".dealt.1" / "shard-001", tmp_path / ".dealt.1" / "1", {})
    assert isinstance(fault, DataError)
    assert "does not see" in str(fault)
    assert "shard-001" in str(fault)
    assert list(tmp_path.iterdir()) == [], "a late task makes no folder anew"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_a_wrong_address_is_named_at_once(tokenizer: Path, tmp_path: Path, address: str) -> None:
    found = pytest.importorskip("ray", reason="ray is an extra: pip install 'gemkr[ray]'")
    found.shutdown()
    began, built_by = time.monotonic(), ShardsConfig(RAY, address)
    with pytest.raises(ShardError, match=f"the Ray cluster {address} does not answer .*refused"):
        ShardedCollection.create(tmp_path / "wiki", 2, tokenizer=tokenizer, built_by=built_by)
    assert time.monotonic() - began < 10
    assert list(tmp_path.iterdir()) == []


def test_without_ray_or_without_shards_the_command_says_so(
    tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    create = ["collection", "create", str(tmp_path / "wiki"), "--tokenizer", str(tokenizer), "--ray", "auto"]
    assert main(create) == 1
    assert "--ray auto builds shards, but there are none" in capsys.readouterr().err
    assert main([*create, "--shards", "2"]) == 1
    assert "pip install 'gemkr[ray]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
