"""Files of flat records, one dataclass a line of jsonl: what miner, judge and training hand to each other.

Knows nothing of what the records mean.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gemkr.data.text_files import json_lines
from gemkr.errors import DataError
from gemkr.files import part_of


def write_records(path: str | Path, records: Iterable[Any], what: str) -> int:
    """Write dataclass records as they come to a temporary file, which takes its final name when all are there; returns how many.

    Raises DataError naming `what` when the folder cannot be written or the disk is full; what `path` held before stays.
    """
    path = Path(path)
    part = part_of(path)
    written = 0
    try:
        with part.open("w", encoding="utf-8") as stream:
            for record in records:
                stream.write(json.dumps(dataclasses.asdict(record), ensure_ascii=False) + "\n")
                written += 1
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        raise DataError(
            f"the {what} cannot be written to {path}: {error.strerror}; choose another place"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return written


def read_fields(
    path: str | Path, kind: type, what: str, command: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, the fields of the dataclass `kind`) of each row; further keys are skipped.

    Raises DataError naming file and line for a row that is no object or lacks a field, and for a file without rows;
    `what` names a record and `command` what makes it.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    found = False
    for line, row in json_lines(Path(path)):
        where = f"{path}:{line}"
        if isinstance(row, str):
            raise DataError(f"{where}: {row}")
        missing = sorted(names - row.keys())
        if missing:
            raise DataError(
                f"{where}: the {what} lacks the key {missing[0]!r}; make it again with `{command}`"
            )
        found = True
        yield where, {name: row[name] for name in names}
    if not found:
        raise DataError(f"the file {path} holds no {what}; make some with `{command}`")
