"""One change at a time, whole or not at all: of a collection, or of all shards of a folder.

Every change writes parts beside those that stand; then one file that names the parts is replaced. Whatever stops a change before
that, the old generations stand, and what was written is cleared away, at the latest by the next change.
"""

from __future__ import annotations

import shutil
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


@contextmanager
def changing(manifests: Manifests, newest: Callable[[], Sequence[Generation]]) -> Iterator[list[Change]]:
    """A change of the newest generation of each collection, all committed at the end in one step. `newest` opens them once nobody
    else can change them.

    DataError when another process is at it, or nothing can be written.
    """
    with _only_writer(manifests.folder):
        changes = [Change(generation) for generation in newest()]
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


def _only_writer(folder: Path) -> IO[bytes]:
    try:
        return lock(folder / LOCK)
    except DataError as error:
        raise DataError(
            f"another process is changing the collection {folder}; wait until it has ended"
        ) from error
    except OSError as error:
        raise DataError(f"the collection {folder} cannot be changed ({error.strerror})") from error


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
