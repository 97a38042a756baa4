"""Kills writers of a collection at random moments, and reads it while it changes.

    PYTHONPATH=.:tests python tests/collection/kill_loop.py FOLDER --kills 1000 --reads 100000 --builds 50

Another process merges segments all the while, and is killed too. After every kill the collection must open as the generation before or after the change, pass `verify`, hold just its documents,
and be rid of stray files after the next change. Readers open it again and again and compare what they find with counting.
A folder of shards that several processes build is there whole or not at all when their parent is killed, and can be made at once.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from toy_text import TEXTS, train_sentencepiece

from gemkr.collection import policy
from gemkr.collection.collection import Collection
from gemkr.collection.manifest import PARTS
from gemkr.collection.shard_folder import create_shards
from gemkr.collection.sharded import ShardedCollection
from gemkr.types import Document

WORDS = sorted({word for text in TEXTS for word in text.split()})
IDS = 60
FILES = 28
"""About as many as a build of three shards writes."""


class Loop:
    """A collection, and what its documents are as far as the parent process knows."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.collection = Collection.create(
            folder / "c", tokenizer=train_sentencepiece(folder / "t.model"), documents=self.batch(IDS // 2)
        )
        _ = self.collection.tokenizer
        self.model = {d.doc_id: d.text for d in self.collection.documents}
        self.finished = self.killed = 0
        self.merger: int | None = None

    def batch(self, size: int) -> list[Document]:
        ids = self.random.sample(range(IDS), size)
        return [Document(f"d{i}", " ".join(self.random.choices(WORDS, k=8))) for i in ids]

    def plan(self):
        """A change and the documents after it."""
        kind = self.random.choice(["add", "update", "update", "delete", "delete"])
        if kind == "delete":
            ids = self.random.sample(sorted(self.model), min(len(self.model), self.random.randint(1, 9)))
            return lambda c: c.delete(ids), {k: v for k, v in self.model.items() if k not in ids}
        batch = self.batch(self.random.randint(1, 12))
        if kind == "add":
            batch = [document for document in batch if document.doc_id not in self.model]
            return lambda c: c.add(batch), self.model | {d.doc_id: d.text for d in batch}
        rest = {k: v for k, v in self.model.items() if k not in {d.doc_id for d in batch}}
        return lambda c: c.update(batch), rest | {d.doc_id: d.text for d in batch}

    def merge(self) -> None:
        """Segments are merged from here on, in a process of its own."""
        self.merger = os.fork()
        if self.merger == 0:
            try:
                while True:
                    Collection.open(self.collection.folder).compact()
                    time.sleep(0.01)
            finally:
                os._exit(1)

    def stop_merging(self) -> None:
        if self.merger is not None:
            os.kill(self.merger, signal.SIGKILL)
            _, status = os.waitpid(self.merger, 0)
            assert os.WIFSIGNALED(status), "the merges failed"
            self.merger = None

    def kill_one(self, seconds: float) -> None:
        """One change in a process of its own, killed after some of `seconds`."""
        act, after = self.plan()
        end = time.monotonic() + self.random.random() * seconds
        ended = killed(lambda: act(self.collection), lambda: time.monotonic() > end)
        self.finished += ended
        self.killed += not ended
        self.collection = Collection.open(self.collection.folder, tokenizer=self.collection.tokenizer.path)
        self.collection.verify()
        found = {d.doc_id: d.text for d in self.collection.documents}
        same = [list(found.items()) == list(model.items()) for model in (self.model, after)]
        assert same[1] if ended else any(same), "neither the old nor the new documents"
        self.model = found
        check(self.collection, self.random, 5)

    def kill_build(self, files: int | None) -> None:
        """Shards are built by processes of a process that is killed once so many files are there, or has ended before."""
        folder, path = self.collection.folder.with_name("shards"), self.collection.tokenizer.path
        part = folder.with_name(".shards.part")
        documents = [Document(f"s{i}", " ".join(self.random.choices(WORDS, k=8))) for i in range(IDS)]
        ended = killed(
            lambda: create_shards(folder, 3, tokenizer=path, documents=documents, processes=3),
            lambda: files is not None and sum(len(names) for *_, names in os.walk(part)) >= files,
        )
        assert folder.exists() or not ended
        if folder.exists():
            made = ShardedCollection.open(folder)
            made.verify()
            assert {d.doc_id: d for d in made.documents} == {d.doc_id: d for d in documents}
            assert not ended or not part.exists()
            shutil.rmtree(folder)

    def clean(self) -> None:
        """A change that is not killed leaves no stray file."""
        self.stop_merging()
        self.collection.update(self.batch(1))
        self.model = {d.doc_id: d.text for d in self.collection.documents}
        names = {part.name for part in self.collection._now.manifest.parts}
        assert {path.name for path in (self.collection.folder / PARTS).iterdir()} == names
        left = {p.name for p in self.collection.folder.iterdir()} - {".merge.lock"}
        assert left == {".lock", "collection.json", PARTS}


def killed(act: Callable[[], object], due: Callable[[], bool]) -> bool:
    """Act in a process of its own, which is killed when that is due; whether it had ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    while not due() and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    ended = os.WIFEXITED(status)
    assert not ended or os.WEXITSTATUS(status) == 0, "the change failed"
    return ended


def check(collection: Collection, rng: random.Random, times: int) -> int:
    """Random patterns of live documents: counts and documents equal those of plain counting."""
    index = collection.index
    tokens = [index.extract(doc).tolist() for doc in range(len(index))]
    for _ in range(times if tokens else 0):
        doc = rng.randrange(len(tokens))
        start = rng.randrange(max(1, len(tokens[doc])))
        clue = tokens[doc][start : start + rng.randint(1, 3)]
        holders = {}
        for number, each in enumerate(tokens):
            hits = sum(each[i : i + len(clue)] == clue for i in range(len(each)))
            if hits:
                holders[number] = hits
        span = index.search(clue)
        docs, counts = index.documents(span)
        assert dict(zip(docs.tolist(), counts.tolist())) == holders
        assert span.count == sum(holders.values())
    return times


def read_on(folder: Path, reads: int, seed: int) -> None:
    """Open, refresh and query a collection that others change."""
    rng, done = random.Random(seed), 0
    collection = Collection.open(folder)
    while done < reads:
        if rng.random() < 0.5:
            collection.refresh()
        else:
            collection = Collection.open(folder)
        done += check(collection, rng, 20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--reads", type=int, default=0)
    parser.add_argument("--builds", type=int, default=0, help="of shards, killed but for the last")
    parser.add_argument("--seconds", type=float, default=0.12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    policy.SMALL_TOKENS = 100
    args.folder.mkdir(parents=True, exist_ok=True)
    loop = Loop(args.folder, args.seed)
    reader = os.fork() if args.reads else None
    if reader == 0:
        code = 1
        try:
            read_on(loop.collection.folder, args.reads, args.seed + 1)
            code = 0
        finally:
            os._exit(code)
    while loop.killed < args.kills:
        if loop.merger is None:
            loop.merge()
        loop.kill_one(args.seconds)
        if loop.random.random() < 0.5:
            loop.stop_merging()
        if loop.random.random() < 0.2:
            loop.clean()
    loop.clean()
    while reader:  # the reader goes on while changes do
        done, status = os.waitpid(reader, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, "a reader failed"
            break
        loop.clean()
    for build in range(args.builds):  # the last one makes the folder
        loop.kill_build(loop.random.randint(1, FILES) if build < args.builds - 1 else None)
    print(
        f"{loop.killed} killed, {loop.finished} finished, {args.reads} reads, generation {loop.collection.generation}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
