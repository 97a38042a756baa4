"""Rows of objects, from jsonl or from parquet files as data sets are published, and rows of cells from csv.

Parquet needs the package pyarrow. Knows nothing of what the rows hold.
"""

from __future__ import annotations

import csv
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


def csv_cells(path: Path, reader: Any) -> Iterator[tuple[int, list[str] | str]]:
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
