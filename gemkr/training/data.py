"""Training material for clue writing: mined clues joined with their queries, as a dataset that builds examples.

Clues are taken as they were mined, token by token; the prompt comes from the model's own `InputBuilder`, the same that
evaluation uses. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.data.clues import MinedClue, read_clues
from gemkr.data.queries import read_queries
from gemkr.errors import DataError
from gemkr.types import Query

ExampleBuilder = Callable[..., Any]


@dataclass(frozen=True)
class ClueDataset:
    """Sample i teaches clue i to the query it was mined for; `form` is told to the model when `tell_form`.

    `queries` are those that have clues, `known` the names of all in the file.
    Indexing builds the example (reading its picture) and is safe in several processes.
    """

    queries: dict[str, Query]
    clues: list[MinedClue]
    build: ExampleBuilder
    tell_form: bool
    known: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.clues)

    def __getitem__(self, number: int) -> Any:
        clue = self.clues[number]
        form = clue.form if self.tell_form else None
        return self.build(self.queries[clue.query_id], clue=clue.tokens, form=form)

    def prompt(self, number: int) -> Any:
        """The prompt of sample `number`, without its clue."""
        clue = self.clues[number]
        return self.build(self.queries[clue.query_id], form=clue.form if self.tell_form else None)

    def lengths(self) -> np.ndarray:
        """int64[n]: each sample's rough length, good enough to sort by: characters of the query, four a token."""
        words = {key: self._characters(query) // 4 for key, query in self.queries.items()}
        return np.array([words[clue.query_id] + len(clue.tokens) for clue in self.clues], dtype=np.int64)

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        numbers = {key: number for number, key in enumerate(self.queries)}
        return np.array([numbers[clue.query_id] for clue in self.clues], dtype=np.int64)

    def _characters(self, query: Query) -> int:
        return len(query.question) + len(query.caption or "") + sum(len(d) + 2 for d in query.detections)


@dataclass(frozen=True)
class PromptDataset:
    """Sample i is a prompt with up to `limit` of its clues (a `SharedExample`)."""

    clues: ClueDataset
    rows: list[tuple[int, ...]]

    @staticmethod
    def of(clues: ClueDataset, limit: int) -> PromptDataset:
        """Gather clues that share a prompt (query and, where it is told, form), in order of appearance."""
        gathered: dict[tuple[str, str], list[int]] = {}
        for number, clue in enumerate(clues.clues):
            gathered.setdefault((clue.query_id, clue.form if clues.tell_form else ""), []).append(number)
        rows = [tuple(m[i : i + limit]) for m in gathered.values() for i in range(0, len(m), limit)]
        return PromptDataset(clues, rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Any, tuple[tuple[int, ...], ...]]:
        row = self.rows[number]
        return self.clues.prompt(row[0]), tuple(tuple(self.clues.clues[i].tokens) for i in row)

    def query_id(self, number: int) -> str:
        """Whose prompt it is."""
        return self.clues.clues[self.rows[number][0]].query_id

    def lengths(self) -> np.ndarray:
        """int64[n]: rough lengths of the prompts."""
        return self.clues.lengths()[[row[0] for row in self.rows]]

    def groups(self) -> np.ndarray:
        """int64[n]: a number for each sample's query."""
        return self.clues.groups()[[row[0] for row in self.rows]]


def read_clue_dataset(
    queries: str | Path, clues: str | Path, build: ExampleBuilder, *, tell_form: bool | None = None
) -> ClueDataset:
    """Join a clue file with its query file; queries without a clue are left out.

    Unless `tell_form` says otherwise, the form is told to the model only when the file holds more than one. Raises
    DataError naming the first clue whose query is not in the query file, and as the readers do.
    """
    where = f"{clues} and {queries}"
    return join_clues(read_queries(queries), read_clues(clues), build, where=where, tell_form=tell_form)


def join_clues(
    queries: Iterable[Query],
    clues: Iterable[MinedClue],
    build: ExampleBuilder,
    *,
    where: str = "the clues",
    tell_form: bool | None = None,
) -> ClueDataset:
    """As `read_clue_dataset`, from memory; `where` names the sources in errors."""
    known = {query.query_id: query for query in queries}
    kept = list(clues)
    for clue in kept:
        if clue.query_id not in known:
            raise DataError(
                f"{where} do not belong together: the query {clue.query_id!r} of a clue is not among the queries; "
                f"mine the clues from this query file"
            )
    used = {clue.query_id for clue in kept}
    if tell_form is None:
        tell_form = len({clue.form for clue in kept}) > 1
    return ClueDataset(
        {k: q for k, q in known.items() if k in used}, kept, build, tell_form, frozenset(known)
    )
