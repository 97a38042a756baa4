"""Rows of objects, from jsonl or from parquet files as data sets are published.

Parquet needs the package pyarrow. Knows nothing of what the rows hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemkr.data.text_files import json_lines
from gemkr.errors import DataError, first_line

JSON_LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"


def is_table(path: Path) -> bool:
    """Whether `table_rows` reads a file of this name."""
    return path.name.removesuffix(".gz").endswith(JSON_LINES) or path.name.endswith(PARQUET)


def table_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """(line or row from 1, object) of a jsonl or parquet file, or (line, what is wrong with it); streams.

    Raises DataError for a file that cannot be read, and for parquet without pyarrow.
    """
    if not path.name.endswith(PARQUET):
        yield from json_lines(path)
        return
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise DataError(
            f"{path} is a parquet file, which needs the package pyarrow; pip install pyarrow, or write the rows as jsonl"
        ) from None
    if not path.exists():
        raise DataError(f"the file {path} does not exist")
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read after row {number}: {first_line(error)}") from error
