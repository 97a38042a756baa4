"""SimCSE's training file of natural language inference (`nli_for_simcse.csv`), with which LamRA's first stage begins: a sentence, one that
it entails and one that it contradicts; as corpus, queries and a run of negatives."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from gemkr.data.mmeb import candidate_id
from gemkr.data.tables import csv_cells
from gemkr.data.text_files import open_text
from gemkr.data.training_pairs import TrainingPairs
from gemkr.data.values import clean_text
from gemkr.errors import DataError
from gemkr.types import Document, Query

QUERY, POSITIVE, NEGATIVE = COLUMNS = ("sent0", "sent1", "hard_neg")
"""Columns of the file; `hard_neg` may be left out."""


def is_nli_training(path: str | Path) -> bool:
    """Whether a csv file, plain or .gz, has the columns of sentence pairs."""
    path = Path(path)
    if not path.name.removesuffix(".gz").endswith(".csv"):
        return False
    with open_text(path) as stream:
        names = stream.readline().strip().split(",")
    return {QUERY, POSITIVE} <= set(names) <= set(COLUMNS)


def read_nli_training(path: str | Path, name: str | None = None) -> TrainingPairs:
    """Read one file: `sent0` is a query, `sent1` its gold document, `hard_neg` (may be empty) its hard negative.

    Queries are numbered from 0 behind the set's `name` and ":" (default: the file's, up to its first dot); equal sentences are one document, so that none counts as
    wrong for a query of which it is the gold one. Raises DataError naming file and line for a row of another number of columns,
    broken quoting, a text that is not UTF-8, and a row without `sent0` or `sent1`. Memory: the whole file.
    """
    path = Path(path)
    found, name = TrainingPairs(), path.name.partition(".")[0] if name is None else name
    for where, row in _rows(path):
        empty = next((column for column in (QUERY, POSITIVE) if not row[column]), None)
        if empty is not None:
            raise DataError(f"{where}: {empty!r} is empty; give it a sentence, or delete the row")
        query_id = f"{name}:{len(found.queries)}"
        positive, negative = (_document(found, row.get(column, "")) for column in (POSITIVE, NEGATIVE))
        if negative and negative != positive:
            found.negatives[query_id] = negative
        found.queries.append(Query(query_id, row[QUERY], positives=(positive,)))
    if not found.queries:
        raise DataError(f"the training file {path} holds no pair")
    return found


def _document(found: TrainingPairs, text: str) -> str:
    """The id of a sentence, which is kept among the documents; "" for none."""
    if not text:
        return ""
    doc_id = candidate_id(text, None)
    found.documents.setdefault(doc_id, Document(doc_id, text))
    return doc_id


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column, stripped) of each row below the header."""
    with open_text(path, newline="") as stream:
        cells = csv_cells(path, csv.reader(stream, strict=True))
        _, names = next(cells)
        for line, row in cells:
            where = f"{path}:{line}"
            if isinstance(row, str):
                raise DataError(f"{where}: {row}; correct it")
            if len(row) != len(names):
                raise DataError(
                    f"{where}: the row has {len(row)} columns, the header names {len(names)} ({', '.join(names)})"
                )
            yield (
                where,
                {
                    name: clean_text(cell.strip(), repr(name), where)
                    for name, cell in zip(names, row, strict=True)
                },
            )
