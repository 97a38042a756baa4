"""A folder of pictures with a csv about them, as documents and queries: one's own collection in the forms of this package.

Columns: `image` (a file in the folder); `text` (or `caption`) and `title` of the picture as a document, `id` (its name where there is
no such column); `question`, and what belongs to it: `query_id`, `instruction`, `answers` and `positives` (several between "|").
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gemkr.data.text_files import open_text
from gemkr.data.values import clean_text
from gemkr.errors import DataError
from gemkr.types import Document, Query

COLUMNS = frozenset(
    "image id title text caption question query_id instruction answers positives".split()  # noqa: SIM905
)
SEPARATOR = "|"
FIND, ABOUT = "find", "about"
"""What questions do: look for the picture of their row, or ask about it."""


@dataclass(slots=True)
class PictureTable:
    """Documents by id, and queries, in the order of the rows; `pictures` (file names) by file and line of their first row."""

    documents: dict[str, Document] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    pictures: dict[str, str] = field(default_factory=dict)


def read_picture_table(path: str | Path, questions: str = FIND) -> PictureTable:
    """Read a csv file. A picture of several rows is one document; its later rows may leave title and text out, or repeat them.

    With FIND the question of a row is a text that looks for the row's picture, with ABOUT it is asked about it and shows it. Raises
    DataError naming file and line for an unknown column, a row without a picture, rows of one id that differ, and a query id that
    repeats. Pictures are not opened.
    """
    found = PictureTable()
    ids: set[str] = set()
    for where, row in _rows(Path(path)):
        image = row.get("image", "")
        if not image:
            raise DataError(f"{where}: the row names no picture; fill its column 'image'")
        found.pictures.setdefault(image, where)
        doc_id = _name(row.get("id") or Path(image).with_suffix("").as_posix(), "id", where)
        text = row.get("text") or row.get("caption") or ""
        document = Document(doc_id, text, row.get("title", ""), image)
        known = found.documents.setdefault(doc_id, document)
        if known.image != image or ((text or document.title) and known != document):
            raise DataError(
                f"{where}: the document {doc_id!r} stands in an earlier row with another picture, title or text; give the rows "
                "ids of their own"
            )
        if not row.get("question"):
            continue
        query = _query(row, document, f"q{len(found.queries)}", questions, where)
        if query.query_id in ids:
            raise DataError(f"{where}: the query id {query.query_id!r} repeats; make query ids distinct")
        ids.add(query.query_id)
        found.queries.append(query)
    if not found.documents:
        raise DataError(f"{path}: there is no row below the header; add one for each picture")
    return found


def _query(row: dict[str, str], document: Document, name: str, questions: str, where: str) -> Query:
    answers, positives = (_several(row.get(key, "")) for key in ("answers", "positives"))
    positives = tuple(_name(given, "document in positives", where) for given in positives)
    return Query(
        _name(row.get("query_id") or name, "query_id", where),
        row["question"],
        image=document.image if questions == ABOUT else None,
        instruction=row.get("instruction") or None,
        answers=answers,
        positives=positives or ((document.doc_id,) if questions == FIND else ()),
    )


def _several(cell: str) -> tuple[str, ...]:
    return tuple(part for part in map(str.strip, cell.split(SEPARATOR)) if part)


def _name(given: str, column: str, where: str) -> str:
    if any(character.isspace() for character in given):
        raise DataError(f"{where}: the {column} {given!r} holds white space, which runs cannot; give another")
    return given


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and line, cells by column, stripped)."""
    with open_text(path, newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            names = [name.strip().lower() for name in next(reader, [])]
            if "image" not in names or set(names) - COLUMNS or len(set(names)) < len(names):
                strange = next((name for name in names if name not in COLUMNS), None)
                raise DataError(
                    f"{path}:1: the header must name the column 'image', and may name {', '.join(sorted(COLUMNS - {'image'}))}, each "
                    f"once" + (f"; {strange!r} is none of them" if strange is not None else "")
                )
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if not row:
                    continue
                if len(row) != len(names):
                    raise DataError(f"{where}: the row has {len(row)} columns, the header names {len(names)}")
                cells = zip(names, map(str.strip, row), strict=True)
                yield where, {name: clean_text(cell, f"the column {name!r}", where) for name, cell in cells}
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: broken quoting ({error}); correct it") from error
