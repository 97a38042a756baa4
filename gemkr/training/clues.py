"""The file between mining and training: jsonl, one clue per row. Knows nothing of how clues are found or learnt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemkr.errors import DataError
from gemkr.tokenizer import Tokenizer
from gemkr.training.rows import read_fields, write_records

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
    """Write clues as they come (`write_records`); returns how many."""
    return write_records(path, clues, "clues")


def read_clues(path: str | Path) -> Iterator[MinedClue]:
    """Yield the clues of a file; raises DataError naming file and line for a broken row, and for an empty file."""
    for where, row in read_fields(path, MinedClue, "clue", "gemkr mine"):
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


def require_tokens(clues: Sequence[MinedClue], tokenizer: Tokenizer, where: str | Path) -> None:
    """DataError unless the clues were mined with this tokenizer: its tokens only, and most of them make the clue's text.

    Not all need to, as a slice of a passage may begin or end inside a character. About 15 microseconds a clue.
    """
    size, other = tokenizer.vocab_size, None
    misread = 0
    for clue in clues:
        if not 0 <= min(clue.tokens) <= max(clue.tokens) < size:
            wrong = f"a clue of the query {clue.query_id!r} holds the token {max(clue.tokens)}, the model's tokenizer has {size}"
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
