"""One change at a time, whole or not at all: of a collection, or of all shards of a folder.

Every change writes parts beside those that stand; then one file that names the parts is replaced. Whatever stops a change before
that, the old generations stand, and what was written is cleared away, at the latest by the next change.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from gemkr.collection.change import Change
from gemkr.collection.generation import Generation, stray_parts
from gemkr.collection.manifest import Manifests
from gemkr.errors import DataError
from gemkr.files import lock

LOCK = ".lock"
MERGE_LOCK, MERGING, SERIALS = ".merge.lock", "merging", "serials.json"
"""Of merges beside changes (see `merging`): who is at it, where the new segment grows, and which segments it replaces."""
PATIENCE, FOREVER = 1.0, math.inf
"""Seconds that a change waits for another one: long enough for the commit of a merge."""
POLL_SECONDS = 0.02


@contextmanager
def changing(
    manifests: Manifests, newest: Callable[[], Sequence[Generation]], patience: float | None = None
) -> Iterator[list[Change]]:
    """A change of the newest generation of each collection, all committed at the end in one step. `newest` opens them once nobody
    else can change them.

    DataError when another process is at it for longer than `patience` seconds (default PATIENCE), or nothing can be written.
    """
    folder = manifests.folder
    wait = PATIENCE if patience is None else patience
    with locked(folder / LOCK, f"another process is changing the collection {folder}", wait):
        frozen = _in_merges(manifests)
        changes = [Change(generation, at) for generation, at in zip(newest(), frozen, strict=True)]
        before = [change.before.manifest for change in changes]
        _clear(manifests, changes)
        try:
            yield changes
            after = [change.finish() for change in changes]
            if after != before:
                manifests.write(after)
        except OSError as error:
            _clear(manifests, changes)
            raise DataError(
                f"the collection {manifests.folder} cannot be written ({error.strerror}), it stays at generation "
                f"{sum(manifest.generation for manifest in before)}; make room and try again"
            ) from error
        except BaseException:
            _clear(manifests, changes)
            raise
        _clear(manifests, changes)


def locked(path: Path, fault: str, patience: float = PATIENCE) -> IO[bytes]:
    """A lock of a file, to be closed; DataError where it is another's for longer than `patience` seconds, or cannot be made."""
    end = time.monotonic() + patience
    while True:
        try:
            return lock(path)
        except DataError as error:
            if time.monotonic() >= end:
                raise DataError(f"{fault}; wait until it has ended") from error
            time.sleep(POLL_SECONDS)
        except OSError as error:
            raise DataError(
                f"the collection {path.parent} cannot be changed ({error.strerror}); give its folder the rights, or change another one"
            ) from error


def _in_merges(manifests: Manifests) -> list[frozenset[int]]:
    """For each collection, the serials of segments that a merge is going to replace; what a stopped one left is deleted."""
    places = [folder / MERGING for folder in manifests.folders]
    if not any(place.exists() for place in places):
        return [frozenset()] * len(places)
    try:
        with lock(manifests.folder / MERGE_LOCK):
            for place in places:
                shutil.rmtree(place, ignore_errors=True)
            return [frozenset()] * len(places)
    except DataError:  # the merge goes on
        return [frozenset(_serials(place)) for place in places]


def _serials(place: Path) -> list[int]:
    try:
        return json.loads((place / SERIALS).read_text())
    except FileNotFoundError:
        return []


def _clear(manifests: Manifests, changes: Sequence[Change]) -> None:
    """Delete what no manifest names."""
    begun = manifests.path.is_file()
    standing = manifests.read() if begun else [change.before.manifest for change in changes]
    stray = manifests.leftovers()
    for change, manifest in zip(changes, standing, strict=True):
        stray += stray_parts(change.folder, manifest)
    for path in stray:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
