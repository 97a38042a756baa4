"""Shards in processes of this machine, spoken to through pipes."""

from __future__ import annotations

import multiprocessing
import pickle
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import TracebackType
from typing import Any

from gemkr.collection.manifest import Manifest
from gemkr.collection.shard_server import Place, ShardServer, folder_and_manifest
from gemkr.collection.shards import ShardedIndex
from gemkr.errors import GemkrError, ShardError, first_line


class ProcessShard:
    """A `Shard`: a process that has a collection open; it ends with this one, or with `close`. A script that makes one needs the
    usual `if __name__ == "__main__"`."""

    def __init__(self, folder: str | Path, manifest: Manifest | None = None) -> None:
        """Starts the process without waiting for it; it opens what `ShardServer` does."""
        context = multiprocessing.get_context("spawn")
        self.name, self.documents = str(folder), manifest and manifest.documents
        self._pipe, theirs = context.Pipe()
        self._ready, self._asked = select.poll(), False
        self._ready.register(self._pipe.fileno(), select.POLLIN)
        self.process = context.Process(target=_serve, args=(str(folder), manifest, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, method: str, *args: Any) -> None:
        message = ForkingPickler.dumps((method, args))
        if self._asked:  # the call before was interrupted
            self._answer()
        with self._moving():
            self._asked = True
            self._pipe.send_bytes(message)

    def receive(self) -> Any:
        done, value = self._answer()
        if not done:
            raise value
        return value

    def _answer(self) -> tuple[bool, Any]:
        self._ready.poll()  # an interrupt here loses nothing
        with self._moving():
            message = self._pipe.recv_bytes()
            self._asked = False
        return pickle.loads(message)

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """A message that is interrupted halfway ends the connection, as what follows would be read as its rest."""
        try:
            yield
        except (EOFError, OSError) as error:
            raise self._gone(error) from error
        except BaseException:
            self._pipe.close()
            raise

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self.process.join(1)
        self.process.kill()
        self.process.join()

    def _gone(self, error: Exception) -> ShardError:
        self.process.join(1)
        return ShardError(
            f"the shard {self.name} died (exit status {self.process.exitcode}, {first_line(error)}); start it again, or ask for "
            "partial answers"
        )


class LocalShards:
    """A context in which collections are searched as one, each in a process of its own: `with LocalShards(folders) as index`.

    A pair (folder, manifest) stands for the generation that the manifest describes, a folder for the newest one.
    """

    def __init__(self, shards: Sequence[Place], *, partial: bool = False) -> None:
        self.shards = [ProcessShard(*folder_and_manifest(shard)) for shard in shards]
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
        for shard in self.shards:
            shard.close()


def _serve(folder: str, manifest: Manifest | None, pipe: Connection) -> None:
    """Answer calls until the other side is gone; errors of gemkr are answers. Ctrl-C is the other side's to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server: ShardServer | None = None
    while True:
        try:
            method, args = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            if server is None:
                server = ShardServer(folder, manifest)
            answer = (True, getattr(server, method)(*args))
        except GemkrError as error:
            answer = (False, error)
        with suppress(ConnectionError):  # nobody waits for it any more
            pipe.send(answer)
