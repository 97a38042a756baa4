"""The clues that an earlier run left in its folder: no model is loaded for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gemkr.data.records import read_records
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import TokenIndex
from gemkr.types import Clue, Query


def run_file(folder: Path) -> Path:
    """Where a run in a folder keeps its clues."""
    return folder / "run.jsonl"


def read_clues(folder: Path, index: TokenIndex) -> dict[str, tuple[Clue, ...]]:
    """The clues of each query in the run of a folder.

    Raises ConfigError when there is no run or it wrote no clue, DataError when it was made under another index.
    """
    path = run_file(folder)
    if not path.is_file():
        raise ConfigError(
            f"{path} is not there; run the generative retriever {folder.name!r} first, in an evaluation by naming it before this one"
        )
    clues = {ranking.query_id: ranking.clues for ranking in read_records(path)}
    if not any(clues.values()):
        raise ConfigError(f"{path} holds no clues; run a generative retriever there first")
    for query_id, written in clues.items():
        for clue in written:
            if index.search(clue.tokens) != clue.span:
                raise DataError(
                    f"{path} was made under another index: the clue {clue.text!r} of query {query_id!r} has the rows "
                    f"[{clue.span.lo}, {clue.span.hi}) there and other ones here; give the index that it was made with"
                )
    return clues


def require_answered(clues: dict[str, tuple[Clue, ...]], queries: Sequence[Query], folder: Path) -> None:
    """DataError when the run lacks some of the queries, or has no clue for any of them."""
    missing = [query.query_id for query in queries if query.query_id not in clues]
    if missing:
        raise DataError(
            f"{run_file(folder)} has no record of {len(missing)} of the {len(queries)} queries, such as {missing[0]!r}; let the "
            "run finish with `gemkr eval`, or give the same limit= that it had"
        )
    if not any(clues[query.query_id] for query in queries):
        raise DataError(f"{run_file(folder)} holds no clues of these {len(queries)} queries; run other ones")
