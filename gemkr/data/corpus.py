"""Streaming readers of corpora: one file or folder in, `Document`s out, bad rows named by file and line.

Formats, recognized by extension and header, each plain or `.gz` (rows: `corpus_rows`):

- csv with a header `kid,text` (GS112K; `title` and the other usual names of an id are understood);
- jsonl with `_id, title, text` (BEIR), or `pid`/`doc_id`/`id`/`docid` instead of `_id`; `did, txt, img_path` (M-BEIR);
  `passage_id, passage_content` (M2KR); `.parquet` with the same columns, where pyarrow is installed;
- tsv with a header `id text title` (DPR, quoted as csv), or without one and unquoted: `id title text` (KILT), `id text`
  (MS MARCO), whichever most of the first rows are;
- a folder of `.txt` files: each is a document, its id the path below the folder without `.txt`.

Knows nothing of tokens or indexes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gemkr.data.corpus_rows import corpus_rows
from gemkr.data.text_files import id_fault, open_text, utf8_fault
from gemkr.errors import DataError
from gemkr.types import Document


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
    path: str | Path,
    *,
    skip_bad_rows: BadRows | None = None,
    way_out: str = "correct or delete the row",
    check_distinct: bool = True,
) -> Iterator[Document]:
    """Yield the documents of a corpus file in its order, or of a folder in that of its ids; ids are strings and distinct.

    A row with too few or too many columns, without id or text, with white space in the id, with broken quoting, JSON or
    UTF-8, or with an id that occurred before raises DataError naming file, line and `way_out`; when `skip_bad_rows` is
    given it is appended there instead and left out. A missing, unreadable, truncated or empty file, one in UTF-16, a header
    without the columns needed, a quote that is never closed and an unknown extension always raise DataError. Memory: the
    ids read so far; without `check_distinct` nothing, and ids that occur again pass.
    """
    path = Path(path)
    lines_of: dict[str, int] = {}
    empty = True
    for file, line, parsed in _rows(path):
        reason = parsed if isinstance(parsed, str) else document_fault(parsed)
        if reason is None and check_distinct and parsed.doc_id in lines_of:
            reason = f"the document id {parsed.doc_id!r} already stands in line {lines_of[parsed.doc_id]}"
        if reason is None:
            if check_distinct:
                lines_of[parsed.doc_id] = line
            empty = False
            yield parsed
        elif skip_bad_rows is None:
            raise DataError(f"{file}:{line}: {reason}; {way_out}")
        else:
            skip_bad_rows.rows.append(BadRow(str(file), line, reason))
    if empty:
        skipped = f", {len(skip_bad_rows)} bad rows were skipped" if skip_bad_rows else ""
        raise DataError(
            f"the corpus {path} holds no document{skipped}; it needs at least one row with a text"
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
            doc_id = _id_in(path, file)
            if (fault := id_fault(doc_id, "document")) is not None:
                yield file, 1, f"{fault}; rename the file"
                continue
            with open_text(file) as stream:
                yield file, 1, Document(doc_id, stream.read().strip())
        return
    for line, parsed in corpus_rows(path):
        yield path, line, parsed


def document_fault(document: Document) -> str | None:
    """What is wrong with a document, as a sentence without its end; None where nothing is."""
    fault = id_fault(document.doc_id, "document")
    if fault is not None:
        return fault
    if not document.text.strip() and document.image is None:
        return f"the document {document.doc_id!r} has neither a text nor a picture"
    for part in (document.text, document.title, document.image or ""):
        if not part.isascii() and (fault := utf8_fault(part)) is not None:
            return f"the row is {fault}"
    return None
