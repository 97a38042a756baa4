"""Settings of the HTTP service: what it serves, where it listens, and what a request may cost."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.ranges import AboveZero, Natural, NotNegative, Positive


@dataclass(frozen=True)
class ServiceConfig:
    """`gemkr serve CONFIG`. Reading needs no key; writing needs the one in the environment variable GEMKR_API_KEY.

    `retrievers` are served, the first by default; without it those of `evaluate`, then all others that can answer new questions.
    `hosts` are the names that a request may call the service by: left out, those of this machine's loopback where it
    listens there, and any elsewhere. A full `queue` of waiting questions answers 503; up to `batch_size` of them are retrieved
    together, after waiting `window_ms` milliseconds for each other. A question that has no answer after `seconds` is given up, a
    body that has not come after `body_seconds` refused, a connection whose request has not begun by then closed. `kept_pixels`
    bounds the decoded pictures in memory (3 bytes a pixel). After a change, segments of a collection are merged in a process of
    their own within `merge_gb` gigabytes of memory, 0: never.
    """

    retrievers: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: Natural = 8000
    hosts: tuple[str, ...] = ()
    queue: Positive = 128
    batch_size: Positive = 16
    window_ms: NotNegative = 3.0
    seconds: AboveZero = 60.0
    body_seconds: AboveZero = 20.0
    most_bytes: Positive = 16_000_000
    most_pixels: Positive = 40_000_000
    kept_pixels: Positive = 120_000_000
    merge_gb: NotNegative = 2.0
    most_characters: Positive = 2_000
    most_k: Positive = 100
    most_queries: Positive = 32
