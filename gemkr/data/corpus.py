"""Streaming readers of corpora: one file or folder in, `Document`s out, bad rows named by file and line.

Formats, recognized by extension and header, each plain or `.gz`:

- csv with a header `kid,text` (GS112K; `title` and the other usual names of an id are understood);
- jsonl with `_id, title, text` (BEIR), or `pid`/`doc_id`/`id`/`docid` instead of `_id`;
- tsv with a header `id text title` (DPR, quoted as csv) or without one: `id title text` (KILT, unquoted);
- a folder of `.txt` files: each is a document, its id the path below the folder without `.txt`.

Knows nothing of tokens or indexes.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import reprlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemkr.errors import DataError
from gemkr.types import Document

ID_NAMES = ("kid", "_id", "doc_id", "pid", "id", "docid")
TEXT_NAMES = ("text", "contents", "passage")
LONGEST_FIELD = 1 << 30


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that was left out: where it stands (1-based line of the file) and what is wrong with it."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(slots=True)
class BadRows:
    """Collects the rows that a reader left out; hand one over to skip bad rows instead of stopping."""

    rows: list[BadRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[BadRow]:
        return iter(self.rows)


def read_corpus(
    path: str | Path, *, skip_bad_rows: BadRows | None = None, way_out: str = "correct or delete the row"
) -> Iterator[Document]:
    """Yield the documents of a corpus file in its order, or of a folder in that of its ids; ids are strings and distinct.

    A row with too few or too many columns, without id or text, with broken quoting, JSON or UTF-8, or with an id
    that occurred before raises DataError naming file, line and `way_out`; when `skip_bad_rows` is given it is
    appended there instead and left out. A missing, unreadable, truncated or empty file, a header without the
    columns needed, a quote that is never closed and an unknown extension always raise DataError. Memory: the ids
    read so far.
    """
    path = Path(path)
    lines_of: dict[str, int] = {}
    for file, line, parsed in _rows(path):
        reason = parsed if isinstance(parsed, str) else _fault(parsed)
        if reason is None and parsed.doc_id in lines_of:
            reason = f"the document id {parsed.doc_id!r} already stands in line {lines_of[parsed.doc_id]}"
        if reason is None:
            lines_of[parsed.doc_id] = line
            yield parsed
        elif skip_bad_rows is None:
            raise DataError(f"{file}:{line}: {reason}; {way_out}")
        else:
            skip_bad_rows.rows.append(BadRow(str(file), line, reason))
    if not lines_of:
        skipped = f", {len(skip_bad_rows)} bad rows were skipped" if skip_bad_rows else ""
        raise DataError(
            f"the corpus {path} holds no document{skipped}; it needs at least one row with a text"
        )


@contextlib.contextmanager
def open_text(path: str | Path, *, newline: str = "\n") -> Iterator[io.TextIOWrapper]:
    """Open a text file, plain or `.gz`; bytes that are not UTF-8 come as lone surrogates, a BOM is dropped.

    Raises DataError, also while reading, when the file is missing, unreadable or a damaged gzip stream.
    """
    path = Path(path)
    try:
        with (
            (gzip.open if path.suffix == ".gz" else open)(path, "rb") as raw,
            io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline=newline) as stream,
        ):
            yield stream
    except FileNotFoundError:
        raise DataError(f"the file {path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a truncated or damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def is_clean(text: str) -> bool:
    """False when a text holds lone surrogates, that is: bytes that were not UTF-8, or broken JSON escapes."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line number, object) of a jsonl file, or (line number, what is wrong with it); blank lines are skipped."""
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            if text.isspace():
                continue
            try:
                value = json.loads(text)
            except ValueError as error:
                yield line, f"not valid JSON ({error})"
                continue
            except RecursionError:
                yield line, "the JSON is nested too deep to be read"
                continue
            yield (
                line,
                value if isinstance(value, dict) else f"a JSON object is needed, not {text.strip()[:40]!r}",
            )


def corpus_files(path: str | Path) -> list[Path]:
    """The files that a corpus is read from, in order: the file itself, or all `.txt` files below a folder, by id.

    Raises DataError for a folder without any.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    found = sorted(
        (file for file in path.rglob("*.txt") if file.is_file()), key=lambda file: _id_in(path, file)
    )
    if not found:
        raise DataError(f"the corpus {path} is a folder without .txt files; put one there for each document")
    return found


def _id_in(folder: Path, file: Path) -> str:
    return file.relative_to(folder).as_posix().removesuffix(".txt")


def _rows(path: Path) -> Iterator[tuple[Path, int, Document | str]]:
    """(file, line number, document) or (file, line number, reason why there is none)."""
    if path.is_dir():
        for file in corpus_files(path):
            with open_text(file) as stream:
                yield file, 1, Document(_id_in(path, file), stream.read().strip())
        return
    for line, parsed in _rows_of_file(path):
        yield path, line, parsed


def _rows_of_file(path: Path) -> Iterator[tuple[int, Document | str]]:
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".csv"):
        return _table(path, ",")
    if plain.endswith(".tsv"):
        return _table(path, "\t") if _tsv_has_header(path) else _kilt(path)
    if plain.endswith((".jsonl", ".ndjson")):
        return _jsonl(path)
    if not path.exists():
        raise DataError(f"the corpus {path} does not exist")
    raise DataError(
        f"the corpus {path} has an unknown extension; known are .csv, .tsv and .jsonl, plain or .gz, and folders of .txt files"
    )


def _table(path: Path, delimiter: str) -> Iterator[tuple[int, Document | str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    with open_text(path, newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        header = next(_cells(path, reader), (0, []))[1]
        if isinstance(header, str):
            raise DataError(f"{path}:1: {header}")
        if not header:
            return
        names = [name.strip().lower() for name in header]
        id_at, text_at = _column(path, names, ID_NAMES, "id"), _column(path, names, TEXT_NAMES, "text")
        title_at = names.index("title") if "title" in names else None
        image_at = names.index("image") if "image" in names else None
        for line, row in _cells(path, reader):
            if isinstance(row, str):
                yield line, row
            elif len(row) != len(names):
                yield line, f"the row has {len(row)} columns, the header names {len(names)}"
            else:
                title = "" if title_at is None else row[title_at]
                image = None if image_at is None else row[image_at] or None
                yield line, Document(row[id_at], row[text_at], title, image)


def _cells(path: Path, reader: Any) -> Iterator[tuple[int, list[str] | str]]:
    """(first line of the row, its cells or what is wrong with them); blank lines are skipped.

    A quote that is open at the end of the file is a DataError: whatever follows it was taken for one cell.
    """
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == "unexpected end of data":
                raise DataError(
                    f"{path}:{line}: the row opens a quote that is never closed, so that it takes in all {reader.line_num - line + 1:,} "
                    "lines to the end of the file; close the quote"
                ) from None
            through = f" up to line {reader.line_num}" if reader.line_num > line else ""
            yield line, f"broken quoting{through} ({error})"
            continue
        if row:
            yield line, row


def _column(path: Path, names: list[str], known: Iterable[str], what: str) -> int:
    for name in known:
        if name in names:
            return names.index(name)
    raise DataError(
        f"{path}: the header {reprlib.repr(names)} names no {what} column; call one of the columns {' or '.join(known)}"
    )


def _tsv_has_header(path: Path) -> bool:
    with open_text(path) as stream:
        names = [name.strip().lower() for name in stream.readline().split("\t")]
    return names[0] in ID_NAMES and any(name in TEXT_NAMES for name in names)


def _kilt(path: Path) -> Iterator[tuple[int, Document | str]]:
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            if text.isspace():
                continue
            row = text.rstrip("\r\n").split("\t", 2)
            if len(row) < 3:
                yield line, f"the row has {len(row)} columns, KILT rows have 3 (id, title, text)"
            else:
                yield line, Document(row[0], row[2], row[1])


def _jsonl(path: Path) -> Iterator[tuple[int, Document | str]]:
    for line, row in json_lines(path):
        if isinstance(row, str):
            yield line, row
            continue
        doc_id = next((row[name] for name in ID_NAMES if name in row), None)
        text = next((row[name] for name in TEXT_NAMES if name in row), None)
        title, image = row.get("title") or "", row.get("image")
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


def _fault(document: Document) -> str | None:
    if not document.doc_id.strip():
        return "the document id is empty"
    if not document.text.strip() and document.image is None:
        return f"the document {document.doc_id!r} has neither a text nor a picture"
    parts = (document.text, document.title, document.doc_id, document.image or "")
    if not all(map(is_clean, parts)):
        return "the row is not valid UTF-8"
    return None
