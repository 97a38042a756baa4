"""What the service measures, for Prometheus: requests, times by stage, queue, batch sizes, errors."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder through which several workers add up their figures."""


class Metrics:
    """The figures of one service; those of all its worker processes together where FOLDER_VARIABLE is set."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "gemkr_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "gemkr_request_seconds", "From the request to the end of its answer", ["route"], buckets=SECONDS, registry=registry
        )  # fmt: skip
        self.stages = Histogram(
            "gemkr_stage_seconds", "Time by stage: picture, wait, retrieve", ["stage"], buckets=SECONDS, registry=registry
        )  # fmt: skip
        self.queue = Gauge(
            "gemkr_queue", "Questions that wait", registry=registry, multiprocess_mode="livesum"
        )
        self.batches = Histogram(
            "gemkr_batch_size", "Questions retrieved together", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )  # fmt: skip

    def waiting(self, jobs: int) -> None:
        self.queue.set(jobs)

    def taken(self, jobs: int) -> None:
        self.batches.observe(jobs)

    def stage(self, name: str, seconds: float) -> None:
        self.stages.labels(name).observe(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)
        return generate_latest(everyone)


def forget_dead_workers(folder: Path) -> None:
    """Take what waited in workers that were killed out of the figures that lie in `folder`."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))
