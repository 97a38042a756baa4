"""Mining many queries in order, on several processes that share one miner's memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeAlias

from gemkr.data.clues import MinedClue
from gemkr.errors import DataError
from gemkr.text.tokenization import available_cores
from gemkr.training.mining.mine import Miner
from gemkr.training.mining.reasons import reason_without_clues
from gemkr.types import Query

Mined: TypeAlias = "tuple[list[MinedClue], str]"
"""The clues of a query, or none and the reason why."""
CHUNK = 16
"""Queries that a process takes at a time: a tenth of a second to a whole one."""
WAITING = 4
"""Chunks for each process that are under way or wait to be written."""


def mine_in_order(miner: Miner, queries: Sequence[Query], processes: int = 1) -> Iterator[Mined]:
    """What is found for each query, in order and the same for any number of `processes`; 0 means one per available core.

    More than one are forks of this process, as they share index, documents and BM25: make no threads before. Errors are those
    of `Miner.mine`, and DataError where a process dies.
    """
    starts = range(0, len(queries), CHUNK)
    processes = min(processes or available_cores(), len(starts))
    if processes <= 1:
        yield from (_mined(miner, query) for query in queries)
        return
    pending: deque[Future[list[Mined]]] = deque()
    with ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("fork"),
        initializer=_Worker.start,
        initargs=(miner, queries),
    ) as pool:
        try:
            for start in starts:
                pending.append(pool.submit(_Worker.mine, start))
                if len(pending) >= WAITING * processes:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "a process that mined died, perhaps for lack of memory; use fewer processes (--threads)"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _mined(miner: Miner, query: Query) -> Mined:
    clues = miner.mine(query)
    return clues, "" if clues else reason_without_clues(miner, query)


class _Worker:
    """What a forked process has of its parent."""

    miner: Miner
    queries: Sequence[Query]

    @classmethod
    def start(cls, miner: Miner, queries: Sequence[Query]) -> None:
        """Ctrl-C is the parent's to act on; without a parent the process ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        cls.miner, cls.queries = miner, queries

    @classmethod
    def mine(cls, start: int) -> list[Mined]:
        return [_mined(cls.miner, query) for query in cls.queries[start : start + CHUNK]]


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
