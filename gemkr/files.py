"""Writing results: whole files under a temporary name first, and folders that are known to take them, from one process at
a time.

Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

from gemkr.errors import DataError


def require_writable_folder(folder: str | Path) -> Path:
    """Make the folder if need be and write a probe into it; DataError in one sentence when that fails."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"the output folder {folder} cannot be written ({error.strerror}); set output to another folder"
        ) from error
    return folder


def lock(path: Path) -> IO[bytes]:
    """Lock a file, made if need be, until what is returned is closed or the process ends; DataError when another holds it.

    On a file system without locks nothing is locked.
    """
    stream = open(path, "ab")  # noqa: SIM115 - open as long as it is locked
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.close()
        raise DataError(
            f"another process is writing into {path.parent}; wait until it has ended, or give another output"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
            stream.close()
            raise
    return stream


def part_of(path: Path) -> Path:
    """The temporary name beside `path` of what takes its place when whole; no two processes share one."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def clear_parts(folder: Path, name: str = "*") -> None:
    """Delete what a process that was killed left under temporary names (`part_of`) in a folder, of one name or of all; for the only
    writer there."""
    for path in folder.glob(f".{name if name == '*' else glob.escape(name)}.*.part"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def delete_folder(folder: Path, *, first: str) -> None:
    """Delete a folder and what it holds, `first` the file without which nobody reads the rest; as much as can be."""
    with suppress(OSError):
        (folder / first).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Replace a file's content in one step: readers see the old file or the new one, never a part.

    Raises DataError when the folder is missing or full; the old file is then untouched.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = part_of(path)
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):  # where not even its name can be, it was never made
            temporary.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}); free or choose another place"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make sure that the names in a folder are on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
