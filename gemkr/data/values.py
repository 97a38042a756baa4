"""Values of rows of JSON as texts: a value of another kind, or one that is not UTF-8, is named with its place.

Knows nothing of what the values mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gemkr.data.text_files import open_text, utf8_fault
from gemkr.errors import DataError


def first_key(row: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first of the `names` that a row gives a value, else the first of all."""
    return next((name for name in names if row.get(name) is not None), names[0])


def text_value(row: dict[str, Any], key: str, where: str) -> str | None:
    """The text (or integer, as text) under a key; None where there is none. DataError for another kind."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{where}: {key!r} must be a string, it is {value!r}")
    return clean_text(value, repr(key), where)


def text_values(row: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """The list of texts (or integers, as texts) under a key; () where there is none. DataError for another kind."""
    value = row.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(
        isinstance(v, (str, int)) and not isinstance(v, bool) for v in value
    ):
        raise DataError(f"{where}: {key!r} must be a list of strings, it is {str(value)[:60]!r}")
    return tuple(clean_text(str(v), repr(key), where) for v in value)


def clean_text(text: str, what: str, where: str | Path) -> str:
    """The text itself; DataError when it is not valid UTF-8."""
    if not text.isascii() and (fault := utf8_fault(text)) is not None:
        raise DataError(f"{where}: {what} is {fault}; correct it")
    return text


def load_json(path: Path) -> Any:
    """The value of a JSON file, plain or `.gz`; DataError when it is none."""
    with open_text(path) as stream:
        try:
            return json.load(stream)
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON ({error})") from error
        except RecursionError:
            raise DataError(f"{path} cannot be read: its JSON is nested too deep; flatten it") from None
