"""The file between mining and training: jsonl, one clue per row. Knows nothing of how clues are found or learnt."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemkr.corpus import json_lines
from gemkr.errors import DataError

FORMS = ("short", "long")


@dataclass(frozen=True, slots=True)
class MinedClue:
    """Tokens [start, stop) of a document, which a model learns to write for a query.

    `form` is one of `FORMS`; `count` is the slice's number of occurrences in the corpus; `answer` is None for the
    opening of a gold passage that holds no answer.
    """

    query_id: str
    doc_id: str
    start: int
    stop: int
    tokens: tuple[int, ...]
    text: str
    form: str
    count: int
    answer: str | None


def write_clues(path: str | Path, clues: Iterable[MinedClue]) -> int:
    """Write clues as they come to `PATH.part`, which takes its final name when all are there; returns how many.

    Raises DataError when the folder cannot be written or the disk is full; what `path` held before stays then.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    written = 0
    try:
        with part.open("w", encoding="utf-8") as stream:
            for clue in clues:
                stream.write(json.dumps(dataclasses.asdict(clue), ensure_ascii=False) + "\n")
                written += 1
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise DataError(
            f"the clues cannot be written to {path}: {error.strerror}; choose another place"
        ) from error
    return written


def read_clues(path: str | Path) -> Iterator[MinedClue]:
    """Yield the clues of a file; raises DataError naming file and line for a broken row, and for an empty file."""
    path = Path(path)
    found = False
    for line, row in json_lines(path):
        if isinstance(row, str):
            raise DataError(f"{path}:{line}: {row}")
        found = True
        yield _from_row(row, f"{path}:{line}")
    if not found:
        raise DataError(f"the clue file {path} holds no clue; mine some with `gemkr mine`")


def _from_row(row: dict[str, Any], where: str) -> MinedClue:
    names = {field.name for field in dataclasses.fields(MinedClue)}
    missing = sorted(names - row.keys())
    if missing:
        raise DataError(f"{where}: the clue lacks the key {missing[0]!r}; mine it anew with `gemkr mine`")
    clue = MinedClue(**{**{name: row[name] for name in names}, "tokens": tuple(row["tokens"])})
    if clue.form not in FORMS:
        raise DataError(f"{where}: the clue has the form {clue.form!r}; known forms are {', '.join(FORMS)}")
    if len(clue.tokens) != clue.stop - clue.start or not clue.tokens:
        raise DataError(
            f"{where}: the clue has {len(clue.tokens)} tokens, its span [{clue.start}, {clue.stop}) others"
        )
    return clue
