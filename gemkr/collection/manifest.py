"""collection.json: which parts make up a generation of a collection, their sizes and checksums. Replaced in one step.

A part is a folder `parts/NNNNNN` that is never changed: a segment, a negative segment, or the list of deleted documents.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gemkr.errors import DataError
from gemkr.files import sync_folder, write_atomically

FILE = "collection.json"
SHARDS = "shards.json"
"""In a folder of shards: their manifests (see `shard_manifest`)."""
PARTS = "parts"
FORMAT, VERSION = "gemkr collection", 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a part: its size, and its hexadecimal SHA-256."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Of a file, which is read whole. Raises OSError."""
        with open(path, "rb") as stream:
            return cls(os.fstat(stream.fileno()).st_size, hashlib.file_digest(stream, "sha256").hexdigest())


@dataclass(frozen=True, slots=True)
class Part:
    """An immutable folder of a collection; `serial` is its name and never used again, `files` what it holds."""

    serial: int
    documents: int
    tokens: int
    files: dict[str, FileRecord]

    @property
    def name(self) -> str:
        return f"{self.serial:06d}"


@dataclass(frozen=True, slots=True)
class TokenizerRecord:
    """The tokenizer of all segments: where it was, and what tells it from others."""

    path: str
    fingerprint: str
    vocab_size: int
    keep_white_space: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """One generation: segments in the order of their documents, negative segments, and the list of deleted documents (None:
    nothing is deleted). `next_serial` is that of the next part."""

    generation: int
    tokenizer: TokenizerRecord
    next_serial: int = 1
    segments: tuple[Part, ...] = ()
    negatives: tuple[Part, ...] = ()
    deleted: Part | None = None

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.segments, *self.negatives, *([] if self.deleted is None else [self.deleted]))

    @property
    def documents(self) -> int:
        """How many are not deleted."""
        deleted = 0 if self.deleted is None else self.deleted.documents
        return sum(part.documents for part in self.segments) - deleted

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the contents: of the checksums of all segments and of what is deleted."""
        parts = (*self.segments, *([] if self.deleted is None else [self.deleted]))
        return hashlib.sha256(json.dumps([asdict(p)["files"] for p in parts]).encode()).hexdigest()

    def next(self, **changes: Any) -> Manifest:
        """The generation after this one."""
        return replace(self, generation=self.generation + 1, **changes)


def part_folder(folder: Path, part: Part) -> Path:
    return folder / PARTS / part.name


def is_collection(path: str | Path) -> bool:
    """Whether a folder is a collection."""
    return (Path(path) / FILE).is_file()


class Manifests(Protocol):
    """What names the newest generations of collections that change together: one file, `path`, whose replacement is the commit.

    `folders`: those of the collections, in order.
    """

    folder: Path
    path: Path

    @property
    def folders(self) -> tuple[Path, ...]: ...

    def read(self) -> tuple[Manifest, ...]:
        """The newest generation of each collection. Raises DataError."""
        ...

    def write(self, manifests: Sequence[Manifest]) -> None:
        """Make these the newest, all in one step. Raises DataError and OSError."""
        ...

    def leftovers(self) -> list[Path]:
        """Files and folders beside the parts that an interrupted change left; for the writer only."""
        ...


class OwnManifest:
    """`Manifests` of a collection by itself: its collection.json."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.folders, self.path = folder, (folder,), folder / FILE

    def read(self) -> tuple[Manifest, ...]:
        return (read_manifest(self.folder),)

    def write(self, manifests: Sequence[Manifest]) -> None:
        (manifest,) = manifests
        write_sealed(self.path, FORMAT, VERSION, asdict(manifest))

    def leftovers(self) -> list[Path]:
        return list(self.folder.glob(f".{FILE}.*.part"))


def read_manifest(folder: Path) -> Manifest:
    """The newest generation. DataError where there is no collection, a damaged one, or one of a newer version."""
    path = folder / FILE
    if not path.is_file():
        require_no_shard(folder)
        raise DataError(
            f"{folder} is no collection, it holds no {FILE}; make one with gemkr collection create"
        )
    _, body = read_sealed(path, FORMAT, (VERSION,))
    return manifest_of(body)


def require_no_shard(folder: Path) -> None:
    """Raise DataError for a folder whose manifest lies in the folder of shards above it."""
    above = folder.absolute().parent
    if (above / SHARDS).is_file() and (folder / PARTS).is_dir():
        raise DataError(f"{folder} is a shard of the collection {above}; name that one")


def manifest_of(body: dict[str, Any]) -> Manifest:
    """The inverse of `asdict`."""
    return Manifest(
        body["generation"],
        TokenizerRecord(**body["tokenizer"]),
        body["next_serial"],
        tuple(map(_part, body["segments"])),
        tuple(map(_part, body["negatives"])),
        None if body["deleted"] is None else _part(body["deleted"]),
    )


def write_sealed(path: Path, kind: str, version: int, body: dict[str, Any]) -> None:
    """Replace a json file in one step. Raises DataError, the old one then stands, and OSError."""
    text = {"format": kind, "version": version, "checksum": checksum(body), **body}
    write_atomically(path, json.dumps(text, indent=1) + "\n")
    sync_folder(path.parent)


def read_sealed(
    path: Path, kind: str, versions: Sequence[int], unsealed: Sequence[int] = ()
) -> tuple[int, dict[str, Any]]:
    """(version, body) of a file that `write_sealed` wrote; versions in `unsealed` have no checksum. DataError in one sentence."""
    folder, file = path.parent, path.name
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the collection {folder} is damaged: {file} cannot be read ({error}); restore it from a copy"
        ) from error
    if not isinstance(text, dict) or text.get("format") != kind:
        raise DataError(f"{path} is not the manifest of a collection; restore it from a copy")
    version = text.get("version")
    if version not in (*versions, *unsealed):
        raise DataError(
            f"the collection {folder} has format version {version}, this gemkr reads {max(versions)}; use the gemkr "
            "that wrote it, or a newer one"
        )
    body = {key: value for key, value in text.items() if key not in ("format", "version", "checksum")}
    if version not in unsealed and text.get("checksum") != checksum(body):
        raise DataError(
            f"the collection {folder} is damaged: {file} does not fit its checksum; restore it from a copy"
        )
    return version, body


def _part(record: dict[str, Any]) -> Part:
    files = {name: FileRecord(**file) for name, file in record["files"].items()}
    return Part(**{**record, "files": files})


def checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
