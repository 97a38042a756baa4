"""From a configuration to a listening process, or several: uvicorn, signals, and what the environment hands to workers."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.config.service import ServiceConfig
from gemkr.errors import ConfigError, GemkrError
from gemkr.evaluation.config import EvalConfig
from gemkr.serve.app import KEY_VARIABLE, STOP_SECONDS, create_app
from gemkr.serve.metrics import FOLDER_VARIABLE, forget_dead_workers
from gemkr.serve.punctual import PunctualProtocol
from gemkr.serve.service import Service

logger = logging.getLogger(__name__)
WORK_VARIABLE = "GEMKR_SERVE"
"""Tells worker processes what to load."""
BACKLOG = 512
HUNG_SECONDS = 60
"""A worker that has not answered its parent for so long is replaced."""


def read(config: str, overrides: Sequence[str], changes: dict[str, Any]) -> EvalConfig:
    """A configuration, its section `serve` changed by the command line."""
    loaded = load_config(find_config(config, "eval"), EvalConfig, list(overrides))
    return replace(loaded, serve=replace(loaded.serve, **changes))


def serve(config: str, overrides: Sequence[str], changes: dict[str, Any], workers: int) -> None:
    """Listen until SIGTERM or Ctrl-C, then finish what was taken in. ConfigError for an address that cannot be had."""
    settings = read(config, overrides, changes)
    listener = _listen(settings.serve.host, settings.serve.port)
    with listener:
        if workers == 1:
            app = create_app(Service(settings), key=os.environ.get(KEY_VARIABLE) or None)
            options = _options(app, settings.serve)
            _say(settings, listener)
            uvicorn.Server(options).run(sockets=[listener])
            return
        os.environ[WORK_VARIABLE] = json.dumps([config, list(overrides), changes])
        with tempfile.TemporaryDirectory() as folder:
            os.environ[FOLDER_VARIABLE] = folder
            options = _options("gemkr.serve.server:worker_app", settings.serve, factory=True, workers=workers)
            _say(settings, listener)
            supervisor = Workers(options, sockets=[listener])
            supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise ConfigError("a worker could not load the configuration; its own line says why")


def worker_app() -> Any:
    """The application of one worker process, which may stand in for one that has died."""
    forget_dead_workers(Path(os.environ[FOLDER_VARIABLE]))
    config, overrides, changes = json.loads(os.environ[WORK_VARIABLE])
    try:
        with _ended_by_signals():
            service = Service(read(config, overrides, changes))
    except Exception as error:
        if isinstance(error, GemkrError):
            print(f"gemkr: {error}", file=sys.stderr)
        else:
            logger.exception("a worker could not be loaded")
        raise SystemExit(STARTUP_FAILURE) from error  # which tells the parent not to try again, and again
    return create_app(service, key=os.environ.get(KEY_VARIABLE) or None)


class Options(uvicorn.Config):
    """uvicorn's settings, with what a process does before it serves, and the time that the head of a request has."""

    head_seconds: float

    def configure_logging(self) -> None:
        """Log as the command line does, and survive the SIGTERM that uvicorn raises again once it has stopped in order, so that the
        interpreter ends in order too."""
        super().configure_logging()
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        for name in ("uvicorn", "uvicorn.error"):
            logging.getLogger(name).setLevel(logging.WARNING)
        signal.signal(signal.SIGTERM, lambda *_: None)


class Workers(Multiprocess):
    """uvicorn's supervisor, which asks its workers whether they are well. It does not wait for the answer of one that has died, nor,
    when it is to stop, of one that is still loading."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def keep_subprocess_alive(self) -> None:
        """Replace the workers that have died; their ends of the pipes are theirs alone, so that a dead one's is closed."""
        for worker in self.processes:
            worker.child_conn.close()
        super().keep_subprocess_alive()

    def _stop(self, number: int, frame: Any) -> None:
        self.signal_queue.append(number)
        for worker in self.processes:
            if worker.process.is_alive():
                worker.process.terminate()


def _options(app: Any, settings: ServiceConfig, **more: Any) -> Options:
    options = Options(
        app,
        http=PunctualProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(STOP_SECONDS),
        timeout_worker_healthcheck=HUNG_SECONDS,
        **more,
    )
    options.head_seconds = settings.body_seconds
    return options


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and Ctrl-C end the process inside of the block, where there is nothing to finish yet; uvicorn would note them only."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError, TypeError) as error:  # a name that none can be
        raise ConfigError(
            f"the service cannot listen at {host} port {port} ({error}); choose another --host or --port"
        ) from error


def _say(settings: EvalConfig, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    local = host.startswith("127.") or host == "::1"
    who = "this machine only; --host 0.0.0.0 for others" if local else "everybody who reaches this machine"
    write = "writing needs the key" if os.environ.get(KEY_VARIABLE) else f"read only without {KEY_VARIABLE}"
    print(f"serving {', '.join(settings.served)} at http://{shown}:{port} ({who}; {write})", flush=True)
