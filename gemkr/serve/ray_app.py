"""The service on a Ray cluster: the application of `gemkr serve`, loaded by every replica, behind Ray Serve's proxies.

`serve run gemkr.serve.ray_app:application config=mine.yaml replicas=2`, or the same in a file of `serve deploy`. The only file that
knows Ray Serve.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationError

from gemkr.errors import ConfigError
from gemkr.serve.app import KEY_VARIABLE, STOP_SECONDS, create_app
from gemkr.serve.requests import Message
from gemkr.serve.server import read
from gemkr.serve.service import Service


class Arguments(Message):
    """What `serve run` takes: a configuration that every machine finds under this path, `key=value` settings for it, and for each of
    the replicas its share of a machine."""

    config: str
    overrides: tuple[str, ...] = ()
    replicas: int = Field(1, ge=1)
    cpus: float = Field(1.0, ge=0)
    gpus: float = Field(0.0, ge=0)


class Replica:
    """One process that answers. Ray replaces it where it takes no questions any more."""

    app: Any

    async def check_health(self) -> None:
        """RuntimeError, which Ray asks for, where the retrieving thread has died."""
        if not self.app.state.batcher.alive:
            raise RuntimeError("the service takes no questions: its worker has died")


def application(args: Mapping[str, Any]) -> Any:
    """The Ray Serve application for `Arguments`. ConfigError for arguments or a configuration that cannot be used.

    Loading happens in the replicas. The key for writing is what they find in the environment that Ray was started in; requests beyond
    what the queue of a replica holds are refused by it, not kept by Ray.
    """
    from ray import serve

    given = _arguments(args)
    settings = read(given.config, given.overrides, {}).serve

    def build() -> Any:
        return build_app(given.config, given.overrides)

    replica = serve.deployment(
        name="gemkr",
        num_replicas=given.replicas,
        max_ongoing_requests=2 * settings.queue,
        ray_actor_options={"num_cpus": given.cpus, "num_gpus": given.gpus},
        graceful_shutdown_timeout_s=STOP_SECONDS,
    )(serve.ingress(build)(Replica))
    return replica.bind()


def build_app(config: str, overrides: Sequence[str]) -> Any:
    """The FastAPI application of one replica, loaded."""
    return create_app(Service(read(config, overrides, {})), key=os.environ.get(KEY_VARIABLE) or None)


def _arguments(args: Mapping[str, Any]) -> Arguments:
    try:
        return Arguments.model_validate(dict(args))
    except ValidationError as error:
        first, names = error.errors()[0], ", ".join(Arguments.model_fields)
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{where}: {first['msg']}; the arguments are {names}") from error
