"""Building shards out of files of dealt documents, in processes of this machine.

A shard is built in a folder that is there before and belongs to one attempt alone: what a lost process still writes after its build
was given up meets no later one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from gemkr.collection.collection import Collection
from gemkr.errors import DataError
from gemkr.types import Document

Job = tuple[Path, Path]
"""The folder of a shard, and the file of its documents."""
MORE_MEMORY = "none were made; give it more memory or a --memory-limit"


def read_dealt(file: Path) -> Iterator[Document]:
    """The documents of one shard."""
    with open(file, encoding="ascii") as stream:
        for line in stream:
            yield Document(*json.loads(line))


def build_shard(folder: Path, file: Path, settings: dict[str, Any]) -> None:
    """Make one shard; settings and errors as of `Collection.create`."""
    Collection.create(folder, documents=read_dealt(file), **settings)


def build_here(
    jobs: Sequence[Job], workers: int, settings: dict[str, Any], done: Callable[[], object]
) -> None:
    """Build shards, `workers` at once; `done` is called after each. DataError where a process is killed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        built = [pool.submit(build_shard, *job, settings) for job in jobs]
        try:
            for each in as_completed(built):
                each.result()
                done()
        except BrokenProcessPool as error:
            raise DataError(f"a process that built a shard was killed, {MORE_MEMORY}") from error
        finally:
            for each in built:
                each.cancel()


def end_with_parent() -> None:
    """A killed parent leaves no process that goes on building."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
