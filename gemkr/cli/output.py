"""Where results go: checked before the work starts."""

from __future__ import annotations

import resource
import sys
import tempfile
from pathlib import Path

from gemkr.errors import DataError


def require_writable(path: str | Path, *inputs: str | Path | None) -> Path:
    """Make the folder of a result file and try to write into it; raises DataError when that fails.

    The result would replace what exists at `path`: a device and the files of `inputs` are refused.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(
            f"the output folder {path.parent} cannot be written ({error.strerror}); choose another with -o"
        ) from error
    if path.is_dir():
        raise DataError(f"the output {path} is a folder; name a file with -o")
    if any(given is not None and path.resolve() == Path(given).resolve() for given in inputs):
        raise DataError(f"the output {path} is the same file as an input; choose another with -o")
    if path.exists() and not path.is_file():
        raise DataError(f"the output {path} is a device, not a file; name a file with -o")
    return path


def peak_memory() -> float:
    """Highest resident memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def bytes_text(size: float) -> str:
    """A size for people: 35.1 MB."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
