"""A call of shards that ends before its answers are there leaves none of them for the next call."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection.collection import Collection
from gemkr.collection.shard_processes import LocalShards
from gemkr.errors import ShardError
from gemkr.types import Document


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A shell that starts tests in the background has them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[LocalShards]:
    tokenizer = train_sentencepiece(tmp_path / "t.model")
    for number in range(2):
        own = [Document(f"s{number}d{i}", text) for i, text in enumerate(TEXTS)]
        Collection.create(tmp_path / str(number), tokenizer=tokenizer, documents=own)
    shards = LocalShards([tmp_path / "0", tmp_path / "1"])
    yield shards
    shards.close()


def test_an_interrupted_call_leaves_no_answer_for_the_next(
    shards: LocalShards, capfd: pytest.CaptureFixture[str]
) -> None:
    with shards as index:
        pid = shards.shards[1].process.pid
        for _ in range(2):
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            with pytest.raises(KeyboardInterrupt):
                index.count_ends(index.root)
            os.kill(pid, signal.SIGCONT)
            assert [index.doc_ids[i] for i in (0, len(TEXTS), 1)] == ["s0d0", "s1d0", "s0d1"]
        with pytest.raises((TypeError, AttributeError), match="pickle"):
            index._calls.each("ids", lambda s: (0, 1 if s == 0 else lambda: 1))
        assert [index.doc_ids[i] for i in (len(TEXTS), 2)] == ["s1d0", "s0d2"]
        shards.shards[0].send("ids", 0, 1)  # unread when the processes end
    assert [shard.process.exitcode for shard in shards.shards] == [0, 0]
    assert capfd.readouterr().err == ""


def test_a_message_that_is_interrupted_halfway_ends_its_shard(
    shards: LocalShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halfway(message: object) -> None:
        raise KeyboardInterrupt

    with shards as index:
        monkeypatch.setattr(shards.shards[1]._pipe, "send_bytes", halfway)
        with pytest.raises(KeyboardInterrupt):
            index.count_ends(index.root)
        monkeypatch.undo()
        for _ in range(2):
            with pytest.raises(ShardError, match=r"the shard .*1 died .exit status 0, handle is closed"):
                index.count_ends(index.root)
        assert index.doc_ids[1] == "s0d1"
