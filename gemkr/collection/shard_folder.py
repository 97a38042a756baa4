"""Making a folder of shards, and dealing documents over them.

A document belongs to the shard that the hash of its id says. The folder appears whole or not at all: it is made beside its place,
by one process for each shard, and renamed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO

from gemkr.collection.collection import Collection
from gemkr.collection.manifest import FILE, is_collection, read_manifest
from gemkr.collection.shard_manifest import LOCK, ShardManifests, is_sharded
from gemkr.errors import DataError
from gemkr.files import lock, require_writable_folder, sync_folder
from gemkr.fm_index.ids import hash_ids
from gemkr.types import Document

MOST_SHARDS = 128


def shard_of(ids: Sequence[str], shards: int) -> list[int]:
    """Which of `shards` each id belongs to; about 0.3 µs each."""
    plain = [doc_id.encode("utf-8", "replace").decode() for doc_id in ids]
    return (hash_ids(plain) % shards).astype(int).tolist()


@contextmanager
def dealt(documents: Iterable[Document], shards: int, folder: Path) -> Iterator[list[Path]]:
    """A temporary file in `folder` for each shard, which holds its documents in order, for `read_dealt`. One pass."""
    with tempfile.TemporaryDirectory(prefix=".dealt.", dir=folder) as place, ExitStack() as stack:
        files = [Path(place) / str(shard) for shard in range(shards)]
        streams = [stack.enter_context(open(file, "w", encoding="ascii")) for file in files]
        for d in documents:
            (shard,) = shard_of([d.doc_id], shards)
            streams[shard].write(json.dumps([d.doc_id, d.text, d.title, d.image]) + "\n")
        stack.close()
        yield files


def read_dealt(file: Path) -> Iterator[Document]:
    """The documents of one shard."""
    with open(file, encoding="ascii") as stream:
        for line in stream:
            yield Document(*json.loads(line))


def create_shards(
    folder: Path,
    shards: int,
    *,
    tokenizer: str | Path,
    documents: Iterable[Document] = (),
    keep_white_space: bool = False,
    memory_limit: int | None = None,
    processes: int = 1,
) -> None:
    """Make a folder of shards with these documents; arguments and errors as of `Collection.create`, nothing is left then.

    `processes` (0: one per core) build at once, and share the memory limit.
    """
    if not 1 <= shards <= MOST_SHARDS:
        raise DataError(f"{shards} shards were asked for; give 1 to {MOST_SHARDS}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "a collection already" if is_collection(folder) or is_sharded(folder) else "not empty"
        raise DataError(f"{folder} is {what}; choose a new folder for the shards")
    part = require_writable_folder(folder.parent / f".{folder.name}.part")
    workers = min(shards, processes or os.cpu_count() or 1)
    settings = {
        "tokenizer": tokenizer,
        "keep_white_space": keep_white_space,
        "memory_limit": memory_limit and memory_limit // workers,
        "processes": max(1, (processes or os.cpu_count() or 1) // workers),
    }
    with _only_writer(part):
        try:
            for path in part.iterdir():  # what an interrupted one has left
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            names = [f"shard-{number:03d}" for number in range(shards)]
            with dealt(documents, shards, part) as files:
                _build([part / name for name in names], files, workers, settings)
            ShardManifests(part, names).write([read_manifest(part / name) for name in names])
            for name in names:
                (part / name / FILE).unlink()
                (part / name / LOCK).unlink()
            os.rename(part, folder)
            sync_folder(folder.parent)
        except OSError as error:
            raise DataError(
                f"the shards {folder} cannot be written ({error.strerror}), none were made; make room and try again"
            ) from error
        finally:
            with suppress(OSError):
                shutil.rmtree(part)


def _only_writer(part: Path) -> IO[bytes]:
    try:
        return lock(part / LOCK)
    except DataError as error:
        raise DataError(
            f"another process is making the shards of {part.name[1:-5]}; wait until it has ended"
        ) from error
    except OSError as error:
        raise DataError(f"{part} cannot be written ({error.strerror}); choose another folder") from error


def _build(folders: list[Path], files: list[Path], workers: int, settings: dict) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        jobs = [pool.submit(_create, *each, settings) for each in zip(folders, files, strict=True)]
        try:
            for job in jobs:
                job.result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that built a shard was killed, none were made; give it more memory or a --memory-limit"
            ) from error
        finally:
            for job in jobs:
                job.cancel()


def _create(folder: Path, file: Path, settings: dict) -> None:
    Collection.create(folder, documents=read_dealt(file), **settings)


def end_with_parent() -> None:
    """A killed parent leaves no process that goes on building."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
