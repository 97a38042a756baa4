"""The rows of one corpus file as documents, whichever of its formats it has; what is wrong with a row comes in its place.

Knows nothing of folders, of ids that repeat, or of what becomes of bad rows.
"""

from __future__ import annotations

import csv
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from gemkr.data.tables import csv_cells, is_table, table_rows
from gemkr.data.text_files import open_text, separator_hint
from gemkr.data.values import first_key
from gemkr.errors import DataError
from gemkr.types import Document

ID_NAMES = ("kid", "_id", "doc_id", "pid", "id", "docid", "did", "passage_id")
TEXT_NAMES = ("text", "contents", "passage", "txt", "passage_content")
IMAGE_NAMES = ("image", "img_path")
LONGEST_FIELD = 1 << 30
SAMPLED_LINES = 100
"""Lines by which a tsv file without a header is taken for MS MARCO's or KILT's, whichever most of them fit."""


def corpus_rows(path: Path) -> Iterator[tuple[int, Document | str]]:
    """(line number, document) or (line number, reason why there is none) of a file, recognized by extension and header.

    Raises DataError for a file that cannot be read, an unknown extension, a header without the columns needed and a quote
    that is never closed.
    """
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".csv"):
        return _table(path, ",")
    if plain.endswith(".tsv"):
        return _table(path, "\t") if _tsv_has_header(path) else _plain_tsv(path)
    if is_table(path):
        return _objects(path)
    if not path.exists():
        raise DataError(f"the corpus {path} does not exist")
    raise DataError(
        f"the corpus {path} has an unknown extension; known are .csv, .tsv and .jsonl, plain or .gz, .parquet, and folders of .txt files"
    )


def _table(path: Path, delimiter: str) -> Iterator[tuple[int, Document | str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    with open_text(path, newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header = next(csv_cells(path, reader), (0, []))[1]
        if isinstance(header, str):
            raise DataError(f"{path}:1: {header}{separator_hint(_first_line(path), delimiter)}")
        if not header:
            return
        names = [name.strip().lower() for name in header]
        id_at = _column(path, names, ID_NAMES, "id", delimiter)
        text_at = _column(path, names, TEXT_NAMES, "text", delimiter)
        title_at = names.index("title") if "title" in names else None
        image_at = next((names.index(name) for name in IMAGE_NAMES if name in names), None)
        for line, row in csv_cells(path, reader):
            if isinstance(row, str):
                yield line, row
            elif len(row) != len(names):
                yield line, f"the row has {len(row)} columns, the header names {len(names)}"
            else:
                title = "" if title_at is None else row[title_at]
                image = None if image_at is None else row[image_at] or None
                yield line, Document(row[id_at], row[text_at], title, image)


def _column(path: Path, names: list[str], known: Iterable[str], what: str, delimiter: str) -> int:
    for name in known:
        if name in names:
            return names.index(name)
    if len(names) == 1 and (hint := separator_hint(names[0], delimiter)):
        raise DataError(f"{path}:1: the header {reprlib.repr(names[0])} is one column{hint}")
    raise DataError(
        f"{path}: the header {reprlib.repr(names)} names no {what} column; call one of the columns {' or '.join(known)}"
    )


def _first_line(path: Path) -> str:
    with open_text(path) as stream:
        return stream.readline()


def _tsv_has_header(path: Path) -> bool:
    names = [name.strip().lower() for name in _first_line(path).split("\t")]
    return names[0] in ID_NAMES and any(name in TEXT_NAMES for name in names)


def _plain_tsv(path: Path) -> Iterator[tuple[int, Document | str]]:
    """Rows without a header in which a quote is a character as any other: MS MARCO's pairs, or KILT's triples.

    A tab more belongs to KILT's text.
    """
    with open_text(path) as stream:
        tabs = Counter(min(text.count("\t"), 2) for text in islice(stream, SAMPLED_LINES))
    pairs = tabs[1] > tabs[2]
    wanted = "MS MARCO's rows have 2 (id, text)" if pairs else "KILT rows have 3 (id, title, text)"
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            if text.isspace():
                continue
            row = text.rstrip("\r\n").split("\t", -1 if pairs else 2)
            if len(row) == (2 if pairs else 3):
                yield line, Document(row[0], row[-1], "" if pairs else row[1])
            else:
                hint = separator_hint(text, "\t")
                yield line, f"the row has {len(row)} columns, {wanted}{hint}"


def _objects(path: Path) -> Iterator[tuple[int, Document | str]]:
    for line, row in table_rows(path):
        if isinstance(row, str):
            yield line, row
            continue
        doc_id = next((row[name] for name in ID_NAMES if name in row), None)
        text = next((row[name] for name in TEXT_NAMES if name in row), None)
        title, image = row.get("title") or "", row.get(first_key(row, IMAGE_NAMES))
        if doc_id is None or isinstance(doc_id, (dict, list, bool)):
            yield line, f"no document id; one of the keys {', '.join(ID_NAMES)} must hold it"
        elif image is not None and not isinstance(image, str):
            yield line, "the key 'image' must hold the id of a picture, a string"
        elif (
            not isinstance(text or "", str) or (text is None and image is None) or not isinstance(title, str)
        ):
            yield line, "no text; the key 'text' must hold a string, and 'title' too where it is given"
        else:
            yield line, Document(str(doc_id), text or "", title, image or None)
