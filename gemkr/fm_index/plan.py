"""What a build will take, before it begins: memory, time, disk. Knows no corpus, only its size."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

import gemkr.fm_index._core as _core

SECONDS_PER_ROW = 0.09e-6
SECONDS_PER_ROW_IN_BLOCKS = 0.2e-6


def estimate_build(
    rows: int,
    documents: int,
    *,
    wide_symbols: bool = False,
    threads: int = 1,
    memory_limit: int | None = None,
) -> dict[str, Any]:
    """What a build of so many rows (tokens + documents) will take, guessed for natural language.

    `wide_symbols`: more than 65,535 distinct tokens. `memory_limit`: bytes, as the build is given it. Returns
    "peak_bytes" (beside the caller's own copy of the documents), "least_bytes" (the smallest memory limit that works),
    "blocks" (1: at once), "temporary_bytes" (of the work folder, while it lasts), "file_bytes" (with default
    parameters) and "seconds" (a 2020s server core).
    """
    guess = _core.estimate_build(rows, documents, wide_symbols, max(threads, 1), memory_limit or 0)
    per_row = SECONDS_PER_ROW if guess["blocks"] == 1 else SECONDS_PER_ROW_IN_BLOCKS
    share = 0.4 + 0.6 / min(max(threads, 1), 4)
    return guess | {"file_bytes": int(rows * 2.45) + 1_000_000, "seconds": rows * per_row * share}


def memory_left(limit: int) -> int:
    """What a build may take, in bytes, beside what the process holds, under a limit for both; of one below twice that, as much
    again."""
    held = _held()
    return max(limit - held, min(limit, held))


def _held() -> int:
    """Resident memory in bytes; where the system does not tell, the highest so far."""
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
