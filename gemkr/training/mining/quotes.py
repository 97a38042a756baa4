"""What a question quotes of a passage: the longest runs of tokens that stand in both.

Plain arrays; knows neither words nor indexes.
"""

from __future__ import annotations

import numpy as np


def shared_runs(question: np.ndarray, passage: np.ndarray) -> list[tuple[int, int]]:
    """The ranges [start, stop) of `passage` that are runs of `question` too and cannot be made longer at either end.

    Both int64[n]; ranges ascend, each once, also where the question holds the run twice. A range may lie within another
    that matches elsewhere in the question. O(len(question) x len(passage)).
    """
    found: set[tuple[int, int]] = set()
    length = np.zeros(len(passage) + 1, dtype=np.int64)
    for at in range(len(question)):
        grown = np.zeros_like(length)
        grown[1:] = np.where(passage == question[at], length[:-1] + 1, 0)
        goes_on = np.zeros(len(passage) + 1, dtype=bool)
        if at + 1 < len(question):
            goes_on[:-1] = passage == question[at + 1]
        for stop in np.flatnonzero((grown > 0) & ~goes_on).tolist():
            found.add((stop - int(grown[stop]), stop))
        length = grown
    return sorted(found)
