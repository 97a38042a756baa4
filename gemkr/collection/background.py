"""Merges of segments in a process of their own, so that who changes a collection neither waits for them nor lends them memory."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.collection.opening import open_collection
from gemkr.collection.shard_build import end_with_parent
from gemkr.errors import GemkrError

if TYPE_CHECKING:
    from gemkr.collection.collection import Collection
    from gemkr.collection.sharded import ShardedCollection

logger = logging.getLogger(__name__)

NICENESS = 10


class BackgroundMerges:
    """Merges what the policy names, one process at a time, at low priority; it ends with this one."""

    def __init__(self, memory_limit: int | None = None) -> None:
        """`memory_limit`: bytes that a merge may take, as for `gemkr index build`."""
        self._limit = memory_limit
        self.process: multiprocessing.process.BaseProcess | None = None

    def start(self, collection: Collection | ShardedCollection) -> bool:
        """Begin where a merge is due and none of this object is under way; whether it did. Milliseconds."""
        if (self.process is not None and self.process.is_alive()) or not collection.due:
            return False
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=_merge, args=(collection.folder, self._limit), daemon=True)
        self.process.start()
        return True


def _merge(folder: Path, memory_limit: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    os.nice(NICENESS)
    try:
        open_collection(folder).compact(memory_limit, tiered=True)
    except GemkrError as error:
        logger.warning("%s", error)
