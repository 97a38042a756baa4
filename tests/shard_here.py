"""A shard without a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gemkr.collection.manifest import Manifest
from gemkr.collection.shard_server import ShardServer


class Here:
    """A `Shard` of a collection's newest generation, or of the one that a manifest describes."""

    documents = None

    def __init__(self, folder: Path, manifest: Manifest | None = None) -> None:
        self.name, self._server = str(folder), ShardServer(folder, manifest)

    def send(self, method: str, *args: Any) -> None:
        self._call = getattr(self._server, method), args

    def receive(self) -> Any:
        method, args = self._call
        return method(*args)
