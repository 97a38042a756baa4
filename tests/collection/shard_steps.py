"""Ends a change of a folder of shards at every step that it takes on the file system, and at random moments by kill -9.

    PYTHONPATH=.:tests python tests/collection/shard_steps.py FOLDER [--kills 100] [--version 1] [--compact]

Afterwards the folder must open with all documents of before the change or all of after it, pass `verify`, and be rid of what was
left after the next change; a reader of before keeps what it opened.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

from steps_of_files import in_child
from toy_text import TEXTS, train_sentencepiece

from gemkr.collection.manifest import SHARDS, OwnManifest
from gemkr.collection.shard_manifest import ShardManifests
from gemkr.collection.sharded import ShardedCollection
from gemkr.types import Document

UPDATE = [Document(f"d{i}", TEXTS[i % 8] + " again") for i in (1, 2, 3, 4, 20, 21, 22, 23)]


def as_version_1(folder: Path) -> None:
    """The folder as gemkr wrote it when shards had manifests of their own."""
    manifests = ShardManifests(folder)
    for shard, manifest in zip(manifests.folders, manifests.read(), strict=True):
        OwnManifest(shard).write([manifest])
    record = {"format": "gemkr shards", "version": 1, "shards": manifests.names}
    (folder / SHARDS).write_text(json.dumps(record))


def texts(shards: ShardedCollection) -> dict[str, str]:
    """What is read, and what the indexes hold."""
    found = {document.doc_id: document.text for document in shards.documents}
    for shard in shards.shards:
        for doc, doc_id in enumerate(shard.index.doc_ids):
            tokens = shards.tokenizer.encode(found[doc_id])
            assert shard.index.extract(doc).tolist() == list(tokens)
    assert sum(len(shard.index) for shard in shards.shards) == len(found)
    return found


def check(folder: Path, reader: ShardedCollection, before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether the change was seen; AssertionError for anything between."""
    assert texts(reader) == before, "a reader lost what it had opened"
    found = ShardedCollection.open(folder)
    found.verify()
    seen = texts(found)
    assert seen in (before, after), "neither the old nor the new documents"
    reader.refresh()
    assert texts(reader) == seen
    found.update([Document("d0", "one more")])
    manifests = ShardManifests(folder)
    left = {p.name for p in folder.iterdir()} - {".merge.lock"}
    assert left == {".lock", SHARDS, *manifests.names}
    for shard, manifest in zip(manifests.folders, manifests.read(), strict=True):
        assert [p.name for p in shard.iterdir()] == ["parts"]
        assert {p.name for p in (shard / "parts").iterdir()} == {part.name for part in manifest.parts}
    return seen == after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--compact", action="store_true", help="merge segments in place of an update")
    parser.add_argument("--every", type=int, default=1, help="only each of so many steps")
    parser.add_argument("--version", type=int, default=2)
    args = parser.parse_args()
    os.fsync = lambda descriptor: None  # kill -9 takes nothing from the disk that a process has written
    args.folder.mkdir(parents=True, exist_ok=True)
    made, copy = args.folder / "made", args.folder / "copy"
    model = train_sentencepiece(args.folder / "t.model")
    first = [Document(f"d{i}", TEXTS[i % 8]) for i in range(16)]
    shards = ShardedCollection.create(made, 2, tokenizer=model, documents=first, processes=1)
    shards.delete(["d7"])
    if args.version == 1:
        as_version_1(made)
    rng, step, old, new, ended, seconds = random.Random(0), 0, 0, 0, 0, 0.0
    while step >= 0 or old + new < ended + args.kills:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(made, copy)
        reader = ShardedCollection.open(copy)
        before = texts(reader)
        writer = ShardedCollection.open(copy)
        act, after = partial(writer.update, UPDATE), before | {d.doc_id: d.text for d in UPDATE}
        if args.compact:
            act, after = writer.compact, before
        began = time.perf_counter()
        child = in_child(act, step if step >= 0 else None)
        if step < 0:
            time.sleep(rng.random() * seconds)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9, -9), "the change failed"
        seen = check(copy, reader, before, after)
        assert seen or code != 0
        if step >= 0 and code == 0:
            ended, step, seconds = old + new, -1, time.perf_counter() - began
        elif code != 0 or step < 0:
            old, new, step = old + (not seen), new + seen, step + args.every * (step >= 0)
    print(f"{old + new} ended: {old} old, {new} new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
