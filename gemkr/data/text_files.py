"""Text files as UTF-8, plain or `.gz`: another encoding is named, and so is what cannot be an id.

Knows nothing of documents or queries.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemkr.errors import DataError

_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}


@contextlib.contextmanager
def open_text(path: str | Path, *, newline: str = "\n") -> Iterator[io.TextIOWrapper]:
    """Open a text file, plain or `.gz`; bytes that are not UTF-8 come as lone surrogates (`utf8_fault`), a BOM is dropped.

    Raises DataError, also while reading, when the file is missing, unreadable, a damaged gzip stream, or UTF-16 or UTF-32
    by its first bytes.
    """
    path = Path(path)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as raw:
            _refuse_wide_text(path, raw.peek(1024))
            with io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline=newline) as stream:
                yield stream
    except FileNotFoundError:
        raise DataError(f"the file {path} does not exist") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is a truncated or damaged gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _refuse_wide_text(path: Path, head: bytes) -> None:
    """DataError for the first bytes of UTF-16 or UTF-32 text: by its mark, or by a third of them being zero."""
    mark = next((mark for mark in _MARKS if head.startswith(mark)), None)
    if mark is not None:
        name, sign = _MARKS[mark], f"it begins with the byte order mark {mark.hex(' ').upper()}"
    elif 3 * head.count(0) > len(head):
        name, sign = "UTF-16BE" if head[0] == 0 else "UTF-16LE", "every other byte is zero"
    else:
        return
    raise DataError(f"{path} is {name} text ({sign}), not UTF-8; convert it with `iconv -f {name} -t UTF-8`")


def utf8_fault(text: str) -> str | None:
    """What makes a text from `open_text` no valid UTF-8, and the way out; None when nothing does."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if not 0xDC80 <= code <= 0xDCFF:
            return f"not valid UTF-8: half a character stands alone, \\u{code:04x}"
        byte = code - 0xDC00
        char = bytes([byte]).decode("cp1252", errors="replace")
        return (
            f"not valid UTF-8: the byte {byte:02X} is {char!r} in latin-1, from which "
            "`iconv -f WINDOWS-1252 -t UTF-8` converts a file"
        )
    return None


def id_fault(name: str, what: str) -> str | None:
    """Why a name cannot be the id of a document or query: empty, with white space (in which run files and qrels separate their
    columns), or no valid UTF-8. None when it can."""
    if not name.strip():
        return f"the {what} id is empty"
    if len(name.split()) != 1 or name != name.strip():
        return f"the {what} id {name!r} holds white space, which separates the columns of runs and qrels"
    fault = None if name.isascii() else utf8_fault(name)
    return None if fault is None else f"the {what} id is {fault}"


def separator_hint(line: str, delimiter: str) -> str:
    """ "; the columns seem to be separated by ';'" for a line that has no `delimiter` and another separator, else ""."""
    if delimiter in line:
        return ""
    counts = {name: line.count(mark) for mark, name in _SEPARATORS.items() if mark in line}
    if not counts:
        return ""
    found = max(counts, key=lambda name: counts[name])
    wanted = _SEPARATORS.get(delimiter, "white space")
    return f"; the columns seem to be separated by {found}, write {wanted} there"


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
