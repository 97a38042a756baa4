"""Ends the making of a collection's learned index at every step that it takes on the file system, and at random moments by kill -9.

    PYTHONPATH=.:tests python tests/vector_index/learned_steps.py FOLDER [--kind ivf|pq|centroid] [--every 1] [--kills 20]

Whatever is left: retrieval opens and ranks as exact search over the live documents does, the next `gemkr embed` builds the index, and
after the next change no file of the one that was stopped is left.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from steps_of_files import in_child
from test_learned_segments import (
    ALL_LISTS,
    CENTROIDS,
    agree,
    configured,
    embed,
    fresh,
    index_of,
    passages,
    ranked,
)
from toy_text import train_sentencepiece

from gemkr.collection import policy
from gemkr.collection.collection import Collection

KINDS = {"ivf": ALL_LISTS, "pq": {"kind": "pq", "rescore": 100}, "centroid": CENTROIDS}


def changed(folder: Path) -> Collection:
    """A collection of three segments that has changed since its index was built."""
    policy.LARGEST_OF_ADD = 0
    tokenizer = train_sentencepiece(folder / "t.model")
    made = Collection.create(folder / "wiki", tokenizer=tokenizer, documents=passages(60))
    made.add(passages(30, 60))
    return made


def check(collection: Collection, kind: dict) -> bool:
    """Whether the new index is there; AssertionError for a wrong ranking or a file that stays."""
    config, folder = configured(collection, kind), collection.folder.parent / "vectors"
    found = index_of(config)
    assert agree(ranked(config), fresh(collection, kind))
    whole = found.searched_exactly == 0
    embed(config)
    assert index_of(config).searched_exactly == 0
    assert agree(ranked(config), fresh(collection, kind))
    collection.add(passages(3, 200))
    embed(config)
    (place,) = folder.glob("*.index")
    assert not list(folder.rglob("*.part"))
    assert sum(path.is_dir() for path in folder.iterdir()) == 1 + len(collection.documents.live_parts)
    assert len(list(place.iterdir())) == 2
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=list(KINDS), default="centroid")
    parser.add_argument("--every", type=int, default=1, help="only each of so many steps")
    parser.add_argument("--kills", type=int, default=0)
    args = parser.parse_args()
    os.fsync = lambda descriptor: None  # kill -9 takes nothing from the disk that a process has written
    kind, made, copy = KINDS[args.kind], args.folder / "made", args.folder / "copy"
    made.mkdir(parents=True)
    collection = changed(made)
    embed(configured(collection, kind))
    collection.compact()
    collection.delete(["p3", "p61"])
    collection.add(passages(20, 100))
    rng, step, old, new, kills, seconds = random.Random(0), 0, 0, 0, 0, 0.0
    while step >= 0 or kills < args.kills:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(made, copy)
        here = Collection.open(copy / "wiki")
        began = time.perf_counter()
        child = in_child(lambda here=here: embed(configured(here, kind)), step if step >= 0 else None)
        if step < 0:
            time.sleep(rng.random() * seconds)
            os.kill(child, signal.SIGKILL)
            kills += 1
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9, -9), f"embedding failed with {code}"
        whole = check(here, kind)
        assert whole or code != 0
        old, new = old + (not whole), new + whole
        if step >= 0:
            seconds, step = time.perf_counter() - began, -1 if code == 0 else step + args.every
    print(f"{old + new} ended: {old} without the new index, {new} with it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
