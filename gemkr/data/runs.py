"""A run file of any form, recognized by its extension: TREC, `run.jsonl`, or the GeMKR authors' `.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gemkr.data.records import read_records
from gemkr.data.trec import read_id_lists, read_run
from gemkr.errors import DataError
from gemkr.types import Query, Run


def load_run(path: str | Path, queries: Sequence[Query] = (), ties: str = "doc_id") -> Run:
    """Query id -> hits, best first; `.json` needs the queries for their order.

    Equal scores in a file of columns are ordered as `gemkr.data.ties.TIES` says; the other two forms are ranked lists.
    """
    name = str(path)
    if name.endswith(".jsonl"):
        return {ranking.query_id: ranking.hits for ranking in read_records(path)}
    if not name.endswith(".json"):
        return read_run(path, ties=ties)
    if not queries:
        raise DataError(f"{path} names documents without queries; give --queries in the order of that run")
    return read_id_lists(path, [query.query_id for query in queries])
