"""Making a folder of shards, and dealing documents over them.

A document belongs to the shard that the hash of its id says. The folder appears whole or not at all: it is made beside its place,
by processes or tasks of a Ray cluster (see `shard_build`, `cluster`), and renamed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gemkr.collection.manifest import FILE, is_collection, read_manifest
from gemkr.collection.shard_build import Job, build_here
from gemkr.collection.shard_manifest import LOCK, ShardManifests, is_sharded
from gemkr.config.shards import HERE, RAY, ShardsConfig
from gemkr.errors import DataError
from gemkr.files import lock, require_writable_folder, sync_folder
from gemkr.fm_index.ids import hash_ids
from gemkr.progress import progress_bar
from gemkr.types import Document

MOST_SHARDS = 128


def shard_of(ids: Sequence[str], shards: int) -> list[int]:
    """Which of `shards` each id belongs to; about 0.3 µs each."""
    plain = [doc_id.encode("utf-8", "replace").decode() for doc_id in ids]
    return (hash_ids(plain) % shards).astype(int).tolist()


@contextmanager
def dealt(documents: Iterable[Document], shards: int, folder: Path) -> Iterator[list[Path]]:
    """A file for each shard in a new temporary folder in `folder`; it holds its documents in order, for `read_dealt`. One pass."""
    with (
        tempfile.TemporaryDirectory(prefix=".dealt.", dir=folder, ignore_cleanup_errors=True) as place,
        ExitStack() as stack,
    ):
        files = [Path(place) / str(shard) for shard in range(shards)]
        streams = [stack.enter_context(open(file, "w", encoding="ascii")) for file in files]
        for d in documents:
            (shard,) = shard_of([d.doc_id], shards)
            streams[shard].write(json.dumps([d.doc_id, d.text, d.title, d.image]) + "\n")
        stack.close()
        yield files


def create_shards(
    folder: Path,
    shards: int,
    *,
    tokenizer: str | Path,
    documents: Iterable[Document] = (),
    keep_white_space: bool = False,
    memory_limit: int | None = None,
    processes: int = 1,
    built_by: ShardsConfig = HERE,
) -> None:
    """Make a folder of shards with these documents; arguments and errors as of `Collection.create`, nothing is left then.

    `processes` (0: one per core) build at once, and share the memory limit. On Ray each shard is built by a task, for which so many
    cores (0: one) are kept free, under that limit each; its machines must see the folder and the tokenizer. ShardError where there
    is no ray, or its cluster does not answer.
    """
    if not 1 <= shards <= MOST_SHARDS:
        raise DataError(f"{shards} shards were asked for; give 1 to {MOST_SHARDS}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "a collection already" if is_collection(folder) or is_sharded(folder) else "not empty"
        raise DataError(f"{folder} is {what}; choose a new folder for the shards")
    part = require_writable_folder(folder.parent / f".{folder.name}.part")
    with _only_writer(part):
        try:
            for path in part.iterdir():  # what an interrupted one has left
                if path.name != LOCK:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
            names = [f"shard-{number:03d}" for number in range(shards)]
            settings = {"tokenizer": Path(tokenizer).absolute(), "keep_white_space": keep_white_space}
            with dealt(documents, shards, part.absolute()) as files:
                jobs = [(file.with_name(name), file) for name, file in zip(names, files, strict=True)]
                _build(jobs, built_by, settings, memory_limit, processes)
                for name, (made, _) in zip(names, jobs, strict=True):
                    os.rename(made, part / name)
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


def _build(
    jobs: Sequence[Job],
    built_by: ShardsConfig,
    settings: dict[str, Any],
    memory_limit: int | None,
    processes: int,
) -> None:
    with progress_bar(total=len(jobs), desc="building", unit=" shards") as bar:
        if built_by.engine == RAY:
            from gemkr.collection.cluster import build_on_cluster

            settings |= {"memory_limit": memory_limit, "processes": max(processes, 1)}
            cpus = max(built_by.cpus, settings["processes"])
            build_on_cluster(jobs, settings, bar.update, address=built_by.address, cpus=cpus)
            return
        processes = processes or os.cpu_count() or 1
        workers = min(len(jobs), processes)
        settings |= {
            "memory_limit": memory_limit and memory_limit // workers,
            "processes": max(1, processes // workers),
        }
        build_here(jobs, workers, settings, bar.update)
