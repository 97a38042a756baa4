"""Shards as actors on a Ray cluster: the only file that imports ray.

The folders of a collection and of its vectors must be where its actor runs: on a file system that all machines share, or, with `resources`, on the one that
holds it.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from gemkr.collection.manifest import Manifest
from gemkr.collection.shard_server import Place, ShardServer, folder_and_manifest
from gemkr.collection.shards import ShardedIndex
from gemkr.errors import GemkrError, ShardError, first_line

CONNECT_SECONDS = 10


class RayShard:
    """A `Shard`: an actor that has a collection open."""

    def __init__(
        self, place: Place, *, cpus: float = 1, resources: Mapping[str, float] | None = None
    ) -> None:
        """Starts the actor without waiting for it; ray must be connected. `resources`: custom ones of the machine to run on."""
        import ray

        folder, manifest = folder_and_manifest(place)
        self.name, self.documents = str(folder), manifest and manifest.documents
        self._ray, self._answer = ray, None
        actor = ray.remote(ShardActor).options(
            num_cpus=cpus, resources=dict(resources or {}), scheduling_strategy="SPREAD"
        )
        self.actor = actor.remote(str(folder.absolute()), manifest)

    def send(self, method: str, *args: Any) -> None:
        self._answer = self.actor.call.remote(method, args)

    def receive(self) -> Any:
        try:
            done, value = self._ray.get(self._answer)
        except self._ray.exceptions.RayError as error:
            raise ShardError(
                f"the shard {self.name} died ({first_line(error)}); start it again, or ask for partial answers"
            ) from error
        if not done:
            raise value
        return value

    def close(self) -> None:
        """End the actor, unless it has ended with its cluster."""
        if self._ray.is_initialized():
            with suppress(self._ray.exceptions.RayError):  # of another cluster than the one that runs now
                self._ray.kill(self.actor)


class ShardActor:
    """What runs in the cluster: answers calls; errors of gemkr are answers."""

    def __init__(self, folder: str, manifest: Manifest | None = None) -> None:
        self._folder, self._manifest = folder, manifest
        self._server: ShardServer | None = None

    def call(self, method: str, args: tuple) -> tuple[bool, Any]:
        """(True, result) or (False, error)."""
        try:
            if self._server is None:
                self._server = ShardServer(self._folder, self._manifest)
            return True, getattr(self._server, method)(*args)
        except GemkrError as error:
            return False, error


class RayShards:
    """A context in which collections are searched as one, each in an actor: `with RayShards(folders) as index`.

    `address`: of a running cluster, None for one of this machine alone, or whatever ray is connected to already.
    """

    def __init__(
        self,
        shards: Sequence[Place],
        *,
        address: str | None = None,
        partial: bool = False,
        cpus: float = 1,
        resources: Sequence[Mapping[str, float]] | None = None,
    ) -> None:
        """ShardError where ray is missing or the cluster does not answer."""
        try:
            import ray
        except ImportError as error:
            raise ShardError("shards on a cluster need ray; install with pip install 'gemkr[ray]'") from error
        try:
            if not ray.is_initialized():
                _reach(address)
                ray.init(address=address, log_to_driver=False)
        except (OSError, RuntimeError, ray.exceptions.RayError) as error:
            raise ShardError(
                f"the Ray cluster {address} does not answer ({first_line(error)}); correct its address"
            ) from error
        places = resources or [{}] * len(shards)
        self.shards = [
            RayShard(shard, cpus=cpus, resources=place) for shard, place in zip(shards, places, strict=True)
        ]
        self._partial = partial

    def __enter__(self) -> ShardedIndex:
        try:
            return ShardedIndex(self.shards, partial=self._partial)
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the actors."""
        for shard in self.shards:
            shard.close()


def _reach(address: str | None) -> None:
    """Raise OSError where nothing listens at a HOST:PORT: ray would try for a quarter of an hour."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
