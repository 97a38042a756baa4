"""A document scorer for controls: a reproducible random order."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.config.ranges import Seed
from gemkr.types import Query


class RandomOrder:
    """Scores in [0, 1) that depend on the query's id, the document number and `seed` only."""

    @dataclass(frozen=True)
    class Config:
        """A random order."""

        seed: Seed = 0

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> RandomOrder:
        return cls(config.seed)

    def score(self, query: Query, docs: np.ndarray) -> np.ndarray:
        """float32[n] for docs int64[n]; a hash (splitmix64), so independent of order and batch."""
        key = np.uint64(zlib.crc32(f"{self.seed}:{query.query_id}".encode()))
        with np.errstate(over="ignore"):
            z = docs.astype(np.uint64) + (key << np.uint64(32)) + np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
        return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)
