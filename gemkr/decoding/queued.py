"""Work that is queued on a device without waiting for what it does: recorded once as a CUDA graph, and looked at in passing."""

from __future__ import annotations

from collections.abc import Callable

import torch


class Recorded:
    """Calls `work`, which reads and writes tensors that stay where they are. On CUDA the first call runs it kernel by kernel, the
    second records it as one graph, and this and later ones launch that; elsewhere, and without `record`, every call is plain."""

    def __init__(self, work: Callable[[], None], device: torch.device, *, record: bool) -> None:
        self._work, self._device, self._record = work, device, record and device.type == "cuda"
        self._warm, self._graph = False, None

    def __call__(self) -> None:
        if not (self._record and self._warm):
            self._warm = True
            self._work()
            return
        with torch.cuda.device(self._device):
            if self._graph is None:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    self._work()
                self._graph = graph
            self._graph.replay()


class Glance:
    """Looks at a flag on a device without waiting for it, so that what is seen may be some steps old."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._event = device, None
        self._copy = torch.ones((), dtype=torch.bool, pin_memory=device.type == "cuda")

    def at(self, flag: torch.Tensor) -> bool | None:
        """What bool[] `flag` was at an earlier call, or is where the device is the host; None: nothing has arrived yet."""
        if self._device.type != "cuda":
            return bool(flag) if self._device.type == "cpu" else None
        known: bool | None = None
        if self._event is not None and self._event.query():
            known, self._event = bool(self._copy), None
        if self._event is None:
            self._copy.copy_(flag, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(self._device))
        return known
