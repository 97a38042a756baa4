"""The file between mining and training: jsonl, one clue per row. Knows nothing of how clues are found or learnt."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemkr.data.rows import read_fields, write_records
from gemkr.errors import DataError
from gemkr.text.tokenizer import Tokenizer

FORMS = ("short", "long")
"""Clue forms: the answer alone, or a span that is (nearly) unique in the corpus."""


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
    """Write clues as they come (`write_records`); returns how many."""
    return write_records(path, clues, "clues")


def read_clues(path: str | Path) -> Iterator[MinedClue]:
    """Yield the clues of a file; raises DataError naming file and line for a broken row, and for an empty file."""
    for where, row in read_fields(path, MinedClue, "clue", "gemkr mine"):
        wrong = _mistyped_key(row)
        if wrong is not None:
            raise DataError(
                f"{where}: the clue has the {wrong} {reprlib.repr(row[wrong])}; tokens, start, stop and count need whole "
                "numbers, the others text; make it again with `gemkr mine`"
            )
        clue = MinedClue(**{**row, "tokens": tuple(row["tokens"])})
        if clue.form not in FORMS:
            raise DataError(
                f"{where}: the clue has the form {clue.form!r}; known forms are {', '.join(FORMS)}"
            )
        if len(clue.tokens) != clue.stop - clue.start or not clue.tokens:
            raise DataError(
                f"{where}: the clue has {len(clue.tokens)} tokens, its span [{clue.start}, {clue.stop}) others"
            )
        yield clue


def _mistyped_key(row: dict[str, Any]) -> str | None:
    """The first key whose value is of another type than its field; None when all fit."""
    for key in ("query_id", "doc_id", "text", "form"):
        if not isinstance(row[key], str):
            return key
    for key in ("start", "stop", "count"):
        if type(row[key]) is not int:
            return key
    if not isinstance(row["tokens"], list) or not all(type(token) is int for token in row["tokens"]):
        return "tokens"
    return None if row["answer"] is None or isinstance(row["answer"], str) else "answer"


def require_tokens(clues: Sequence[MinedClue], tokenizer: Tokenizer, where: str | Path) -> None:
    """DataError unless the clues were mined with this tokenizer: its tokens only, and most of them make the clue's text.

    Not all need to, as a slice of a passage may begin or end inside a character. About 15 microseconds a clue.
    """
    size, other = tokenizer.vocab_size, None
    misread = 0
    for clue in clues:
        strange = next((token for token in clue.tokens if not 0 <= token < size), None)
        if strange is not None:
            wrong = f"a clue of the query {clue.query_id!r} holds the token {strange}, the model's tokenizer has {size}"
            raise DataError(f"{where}: {wrong}; mine the clues with the tokenizer {tokenizer.path}")
        read = tokenizer.decode(clue.tokens).strip()
        if read != tokenizer.decode(tokenizer.encode(clue.text)).strip():
            misread += 1
            other = other or f"of {clue.text!r} it makes {read!r}"
    if 2 * misread > len(clues):
        raise DataError(
            f"{where}: the model's tokenizer reads {misread:,} of {len(clues):,} clues as other texts ({other}); mine the clues "
            f"with the tokenizer {tokenizer.path}"
        )
