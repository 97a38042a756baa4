"""A service that really listens, on a thread of the test's process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from gemkr.serve.app import create_app
from gemkr.serve.punctual import PunctualProtocol
from gemkr.serve.service import Service


@contextmanager
def listening(service: Service, key: str | None = None) -> Iterator[str]:
    """The address of a service while it listens."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    app = create_app(service, key=key)
    options = uvicorn.Config(
        app, http=PunctualProtocol, log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    options.head_seconds = service.settings.body_seconds
    server = uvicorn.Server(options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
