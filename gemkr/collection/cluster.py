"""Shards on a Ray cluster, searched by actors and built by tasks: the only file that imports ray.

The folders of a collection and of its vectors must be where its actor runs: on a file system that all machines share, or, with
`resources`, on the one that holds it. One that is built must be seen by all.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from gemkr.collection.manifest import Manifest
from gemkr.collection.shard_build import MORE_MEMORY, Job, build_shard
from gemkr.collection.shard_server import Place, ShardServer, folder_and_manifest
from gemkr.collection.shards import ShardedIndex
from gemkr.errors import DataError, GemkrError, ShardError, first_line

CONNECT_SECONDS = 10
CANCEL_SECONDS = 30


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
        _connected(address)
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


def build_on_cluster(
    jobs: Sequence[Job],
    settings: dict[str, Any],
    done: Callable[[], object],
    *,
    address: str | None,
    cpus: float,
) -> None:
    """Build each shard as a task for which `cpus` cores are kept free; arguments as of `shard_build.build_here`, `address` as of
    `RayShards`. No task runs any more at the end, whatever it is.

    DataError names a shard whose task was killed; ShardError as of `RayShards`.
    """
    ray = _connected(address)
    task = ray.remote(_built).options(num_cpus=cpus, max_retries=0, scheduling_strategy="SPREAD")
    folders: dict[Any, Path] = {}
    left: list[Any] = []
    try:
        for folder, file in jobs:
            left.append(task.remote(folder, file, settings))
            folders[left[-1]] = folder
        while left:
            ended, left = ray.wait(left)
            for each in ended:
                _require_built(ray, each, folders[each].name)
                done()
    finally:
        with suppress(ray.exceptions.RayError, OSError, RuntimeError):  # the cluster may be gone
            for each in left:
                ray.cancel(each, force=True)
            ray.wait(left, num_returns=len(left), timeout=CANCEL_SECONDS) if left else None


def _built(folder: Path, file: Path, settings: dict[str, Any]) -> GemkrError | None:
    """What runs in the cluster; errors of gemkr are answers."""
    try:
        if not file.is_file():
            raise DataError(
                f"the machine {socket.gethostname()} does not see {file.parent}, where {folder.name} is to be built; choose a folder "
                "on a file system that all machines of the cluster share"
            )
        build_shard(folder, file, settings)
    except GemkrError as error:
        return error
    return None


def _require_built(ray: Any, answer: Any, name: str) -> None:
    try:
        fault = ray.get(answer)
    except ray.exceptions.RayTaskError as error:  # of no kind that is foreseen
        cause = error.cause
        raise ShardError(
            f"the shard {name} cannot be built on the cluster ({type(cause).__name__}: {first_line(cause)}), none were made; see to its "
            "machines, or build without Ray"
        ) from error
    except ray.exceptions.RayError as error:
        raise DataError(
            f"the task that built {name} was killed ({first_line(error).rstrip('.')}), {MORE_MEMORY}"
        ) from error
    if fault is not None:
        raise fault


def _connected(address: str | None) -> Any:
    """The module ray, connected to a cluster; ShardError where it cannot be."""
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
    return ray


def _reach(address: str | None) -> None:
    """Raise OSError where nothing listens at a HOST:PORT: ray would try for a quarter of an hour."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
