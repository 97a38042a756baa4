"""Writing results: whole files under a temporary name first, and folders that are known to take them.

Knows nothing of what is written.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

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


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Replace a file's content in one step: readers see the old file or the new one, never a part.

    Raises DataError when the folder is missing or full; the old file is then untouched.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
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
