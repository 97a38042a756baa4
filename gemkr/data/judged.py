"""Clues that a retriever wrote for queries with known answers, and what each was worth: the file that `gemkr judge` writes.

Knows nothing of how clues are judged or learnt from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gemkr.data.rows import read_fields, write_records
from gemkr.errors import DataError


@dataclass(frozen=True, slots=True)
class JudgedClue:
    """A clue that was written for a query; `reward` in [0, 1] is what it was worth."""

    query_id: str
    tokens: tuple[int, ...]
    text: str
    reward: float


def write_judged(path: str | Path, clues: Iterable[JudgedClue]) -> int:
    """Write judged clues as they come (`write_records`); returns how many."""
    return write_records(path, clues, "judged clues")


def read_judged(path: str | Path) -> Iterator[JudgedClue]:
    """Yield the clues of a file; raises DataError naming file and line for a broken row, and for an empty file."""
    for where, row in read_fields(path, JudgedClue, "judged clue", "gemkr judge"):
        tokens, reward = row["tokens"], row["reward"]
        fit = (
            isinstance(row["query_id"], str)
            and isinstance(tokens, list)
            and tokens
            and all(type(token) is int for token in tokens)
            and type(reward) in (int, float)
            and 0 <= reward <= 1
        )
        if not fit:
            raise DataError(
                f"{where}: the judged clue has the tokens {tokens!r} and the reward {reward!r}; it needs whole numbers and a reward "
                "from 0 to 1; make it again with `gemkr judge`"
            )
        yield JudgedClue(row["query_id"], tuple(tokens), row["text"], float(reward))
