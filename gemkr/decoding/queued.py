"""Work that is queued on a device without waiting for what it does: recorded once as a CUDA graph, and looked at in passing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Recorded:
    """Calls `work`, which reads and writes tensors that stay where they are. On CUDA the first call runs it kernel by kernel, the
    second records it as one graph, and this and later ones launch that; elsewhere, and without `record`, every call is plain."""

    def __init__(self, work: Callable[[], None], device: torch.device, *, record: bool) -> None:
        self._work, self._record = work, record and device.type == "cuda"
        self._warm, self._graph = False, None

    def __call__(self) -> None:
        if not (self._record and self._warm):
            self._warm = True
            self._work()
            return
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._work()
            self._graph = graph
        self._graph.replay()


class Glance:
    """A flag on a device, as it was when the device last came by: asking never waits."""

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._event = device.type == "cuda", None
        self._plain = device.type == "cpu"
        self._copy = torch.zeros((), dtype=torch.bool, pin_memory=True) if self._cuda else None

    def at(self, flag: torch.Tensor) -> bool | None:
        """bool[] as an earlier call gave it, once it has arrived, or this one where the device is the host; None: not known yet."""
        if self._plain:
            return bool(flag)
        if not self._cuda:
            return None
        known: Any = None
        if self._event is not None and self._event.query():
            known, self._event = bool(self._copy), None
        if self._event is None:
            self._copy.copy_(flag, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        return known
