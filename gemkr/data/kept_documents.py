"""The documents of a corpus file kept beside an index of it, so that the next start neither parses nor copies them.

`.INDEX.documents` is a `documents_file`. It may be deleted at any time; without it, or where it cannot be written, a start reads the
corpus as the first one did.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from gemkr.data import corpus as readers
from gemkr.data import corpus_rows, tables, text_files, values
from gemkr.data.corpus import corpus_files
from gemkr.data.documents_file import DocumentsFile, open_documents, write_documents
from gemkr.errors import DataError
from gemkr.files import sync_folder
from gemkr.types import Document

LEAST_BYTES = 8 << 20
"""Of a corpus whose documents are kept: smaller ones are read in less than a second."""
SETTLED_NS = 2_000_000_000
"""How long a corpus must have been as it is: a change within the same tick of the file system's clock would not be seen."""


def place_beside(index: str | Path) -> Path:
    """Where the documents of the corpus of an index are kept."""
    index = Path(index).absolute()
    return index.with_name(f".{index.name}.documents")


def stamp_of(corpus: Path) -> str | None:
    """What changes when a corpus does, or what reads it: sizes and times of its files, and the source text of the readers. None for
    one that is small, is no file or folder, or was changed just now."""
    try:
        mode = corpus.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return None
        digest, size, newest = hashlib.sha256(_source_of_readers()), 0, 0
        for file in corpus_files(corpus):
            found = file.stat()
            size, newest = size + found.st_size, max(newest, found.st_ctime_ns)
            facts = (file.relative_to(corpus), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            digest.update(f"{facts}\n".encode("utf-8", "surrogateescape"))
    except (OSError, DataError):  # said better by who reads it
        return None
    settled = size >= LEAST_BYTES and time.time_ns() - newest > SETTLED_NS
    return f"{size} bytes, {digest.hexdigest()}" if settled else None


def open_kept(place: Path, stamp: str) -> DocumentsFile | None:
    """The documents that were kept of a corpus with this stamp; None where there are none, or they are damaged."""
    try:
        with open(place, "rb") as stream:
            found = open_documents(stream)
    except (OSError, ValueError):
        return None
    return found if found.stamp == stamp else None


def read_and_keep(
    corpus: Path, place: Path, stamp: str, documents: Iterable[Document], whole: Callable[[], bool]
) -> tuple[DocumentsFile, bool] | None:
    """The documents of a corpus, and whether they were kept: not where it has changed meanwhile, or not all could be read (`whole`).

    They are written beside their place and renamed, so that processes that start at once see whole files only. None where they
    cannot be written, maybe after some were read. Raises DataError as `write_documents`, and what `documents` raises.
    """
    folder = place.parent
    try:
        if not folder.stat().st_mode & 0o222:  # meant to stay as it is, whoever this is
            return None
        descriptor, name = tempfile.mkstemp(".part", f"{place.name}.", folder)
    except OSError:
        return None
    part = Path(name)
    with open(descriptor, "w+b") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of a writer that lives
            os.fchmod(descriptor, stat.S_IMODE(corpus.stat().st_mode) & 0o666)
            write_documents(stream, documents, stamp)
            found = open_documents(stream)
            kept = whole() and stamp_of(corpus) == stamp and _renamed(stream.fileno(), part, place)
        except OSError:
            return None
        finally:
            part.unlink(missing_ok=True)
    return found, kept


def _renamed(descriptor: int, part: Path, place: Path) -> bool:
    """Whether a file could take its place; what killed writers have left there is deleted."""
    try:
        os.fsync(descriptor)
        os.replace(part, place)
        sync_folder(place.parent)
    except OSError:
        return False
    for other in place.parent.glob(f"{glob.escape(place.name)}.*.part"):
        with suppress(OSError), open(other, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            other.unlink()
    return True


@cache
def _source_of_readers() -> bytes:
    return b"".join(
        Path(module.__file__).read_bytes() for module in (readers, corpus_rows, tables, text_files, values)
    )
