"""Settings of the shards of a corpus: what searches them."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.ranges import NotNegative
from gemkr.errors import ConfigError

PROCESSES, RAY = "processes", "ray"


@dataclass(frozen=True)
class ShardsConfig:
    """Where each shard of a sharded collection is searched.

    `engine`: `processes` of this machine, or `ray`, actors of a cluster that see the folders of the collection and its vectors,
    with gemkr installed (`pip install 'gemkr[ray]'`). `address` is the cluster's; left out, that of the environment variable RAY_ADDRESS, a cluster that
    runs here, or a new one on this machine. `cpus` is what Ray keeps free for each actor.
    """

    engine: str = PROCESSES
    address: str | None = None
    cpus: NotNegative = 0.0

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown engine, and an address of processes."""
        if self.engine not in (PROCESSES, RAY):
            raise ConfigError(f"shards.engine is {self.engine!r}; there are {PROCESSES} and {RAY}")
        if self.engine == PROCESSES and self.address is not None:
            raise ConfigError(
                f"shards.address is {self.address!r}, but {PROCESSES} run on this machine; set shards.engine to {RAY}"
            )


HERE = ShardsConfig()
