"""Queries as the jsonl that `read_queries` reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from gemkr.types import Query


def as_lines(queries: Iterable[Query]) -> str:
    """Queries as jsonl; empty fields are left out."""
    rows = ({key: value for key, value in dataclasses.asdict(query).items() if value} for query in queries)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
