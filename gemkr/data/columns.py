"""Files of columns between tabs or white space, such as qrels and runs, whose layout their header or column count tells.

Knows nothing of what the columns are worth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gemkr.data.text_files import id_fault, open_text, separator_hint
from gemkr.errors import DataError

QUERY_NAMES = ("query-id", "query_id", "qid", "topic")
DOCUMENT_NAMES = ("corpus-id", "corpus_id", "doc-id", "doc_id", "docid", "docno", "did", "pid")
_WHITE = re.compile(r"[ \t\r\n\f\v]+")
Layouts = Mapping[int, tuple[str, ...]]
"""Number of columns -> what each of them is; "" for one that is skipped."""


def read_columns(
    path: str | Path,
    what: str,
    layouts: Layouts,
    names: Mapping[str, tuple[str, ...]],
    wanted: tuple[str, ...],
) -> Iterator[tuple[str, list[Any]]]:
    """(file and line, query id, document id and the `wanted` columns) of each row of a file, plain or `.gz`.

    The first row decides what the columns of all rows are: a header, when it names the query (`query-id`), the document
    (`corpus-id`) and each of `names` (column -> what headers call it), else its number of columns (`layouts`). A column that
    the file lacks comes as None. Columns stand between tabs where that gives their number, else between runs of white space.
    Raises DataError naming file and line, with `what` (such as "qrels have 4 columns (…)") for another number of columns, and
    for an id that is empty, or holds white space or bytes that are not UTF-8.
    """
    layout: tuple[str, ...] | None = None
    places: list[int | None] = []
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            if text.isspace():
                continue
            where = f"{path}:{line}"
            header = None if layout else _header(text, names)
            row = _cells(text, (len(layout),) if layout else (*layouts, len(header or ())))
            if layout is None:
                layout = header or layouts.get(len(row))
                if layout is None:
                    hint = separator_hint(text, " ") if len(row) == 1 else ""
                    raise DataError(f"{where}: the row has {len(row)} columns, {what}{hint}")
                columns = ("query", "document", *wanted)
                places = [layout.index(column) if column in layout else None for column in columns]
                if header is not None:
                    continue
            if len(row) != len(layout):
                raise DataError(
                    f"{where}: the row has {len(row)} columns, the first one has {len(layout)}; {what}"
                )
            values = [None if place is None else row[place] for place in places]
            sound = "\t" not in text and text.isascii()  # nothing split at white space is empty or holds any
            for name, kind in () if sound else ((values[0], "query"), (values[1], "document")):
                if (fault := id_fault(name or "", kind)) is not None:
                    raise DataError(f"{where}: {fault}; correct it")
            yield where, values


def _cells(text: str, counts: tuple[int, ...]) -> list[str]:
    """The columns of a line: between tabs when that gives one of the `counts`, else between runs of ASCII's white space, as trec_eval
    splits; a no-break space stays in its id, which is refused for it."""
    if "\t" in text:
        cells = [cell.strip() for cell in text.strip("\r\n").split("\t")]
        if len(cells) in counts:
            return cells
    if text.isascii():
        return text.split()
    return _WHITE.split(text.strip(" \t\r\n\f\v"))


def _header(text: str, names: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """What the columns of a header are, "" for unknown ones; None for a line that does not name query, document and all of `names`."""
    if not names:
        return None
    known = {"query": QUERY_NAMES, "document": DOCUMENT_NAMES, **names}
    cells = [cell.strip().lower() for cell in (text.split("\t") if "\t" in text else text.split())]
    roles = tuple(next((role for role, called in known.items() if cell in called), "") for cell in cells)
    return roles if all(roles.count(role) == 1 for role in known) else None
