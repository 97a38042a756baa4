"""shards.json: the generation of every shard of a folder of shards, so that one replacement changes all of them.

A shard is a folder of parts, as a collection is, whose manifest lies here. Version 1 named the shards alone, each with its own
collection.json; such folders are read, and the first change makes them version 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gemkr.collection.manifest import (
    FILE,
    SHARDS,
    Manifest,
    manifest_of,
    read_manifest,
    read_sealed,
    write_sealed,
)
from gemkr.errors import DataError

FORMAT, VERSION = "gemkr shards", 2
LOCK = ".lock"


def is_sharded(path: str | Path) -> bool:
    """Whether a folder is one of shards."""
    return (Path(path) / SHARDS).is_file()


class ShardManifests:
    """`Manifests` of a folder of shards."""

    def __init__(self, folder: Path, names: Sequence[str] = ()) -> None:
        """`names` of the shards are needed where the file is not there yet. DataError where it cannot be read."""
        self.folder, self.path = folder, folder / SHARDS
        self.names = tuple(names) or tuple(name for name, _ in self._records())

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(self.folder / name for name in self.names)

    def read(self) -> tuple[Manifest, ...]:
        """DataError where a shard is missing too."""
        while True:
            records = self._records()
            try:
                for folder in self.folders:
                    if not folder.is_dir():
                        raise DataError(f"the shard {folder} is missing; restore it from a copy")
                return tuple(
                    read_manifest(self.folder / name) if body is None else manifest_of(body)
                    for name, body in records
                )
            except DataError:
                if self._records() == records:  # else a writer has made it version 2 meanwhile
                    raise

    def write(self, manifests: Sequence[Manifest]) -> None:
        records = [
            {"name": name, **asdict(manifest)} for name, manifest in zip(self.names, manifests, strict=True)
        ]
        write_sealed(self.path, FORMAT, VERSION, {"shards": records})

    def leftovers(self) -> list[Path]:
        found = [*self.folder.glob(f".{SHARDS}.*.part"), *self.folder.glob(".dealt.*")]
        if all(body is not None for _, body in self._records()):
            found += [
                path for shard in self.folders for path in (shard / FILE, shard / LOCK) if path.exists()
            ]
        return found

    def _records(self) -> list[tuple[str, dict[str, Any] | None]]:
        """Names of the shards, and their manifests, None each in version 1."""
        version, body = read_sealed(self.path, FORMAT, (VERSION,), unsealed=(1,))
        try:
            if not body["shards"]:
                raise ValueError("it names no shards")
            if version == 1:
                return [(str(name), None) for name in body["shards"]]
            return [(record.pop("name"), record) for record in body["shards"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{self.path} cannot be read ({error}); restore it from a copy") from error
