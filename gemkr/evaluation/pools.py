"""Named pools: the part of the corpus that may answer a query, such as a task's candidates in M-BEIR.

A local pool is the global one filtered, exactly: the retriever ranks the allowed documents as they stand in the whole ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from gemkr.data.tables import is_table, table_rows
from gemkr.data.text_files import id_fault, open_text
from gemkr.data.values import text_value, text_values
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import Retriever
from gemkr.types import Query, Ranking

Pools = Mapping[str, frozenset[str]]
"""Name of a pool -> its doc_ids."""


def read_pools(paths: Mapping[str, str], doc_ids: Iterable[str]) -> Pools:
    """The pools of files with one doc_id a line (plain or .gz), and those of `.jsonl` files of many pools, which have names of
    their own (`{"pool": name, "doc_ids": [...]}`); DataError for an empty one, a name that repeats, or an id that holds white
    space or is not in the corpus."""
    known, pools = frozenset(doc_ids), {}
    for name, ids, place in _named_pools(paths):
        found = frozenset(ids)
        for doc_id in found:
            if (fault := id_fault(doc_id, "document")) is not None:
                raise DataError(f"{place(doc_id)}: {fault}; correct it")
        if not found <= known:
            absent = next(doc_id for doc_id in ids if doc_id not in known)
            raise DataError(
                f"{place(absent)}: the pool {name!r} names the document {absent!r}, which the corpus does not hold; "
                "correct the id, or use the corpus that the pool was made for"
            )
        if name in pools:
            raise DataError(f"{place(ids[0])}: the pool {name!r} is given twice; rename one")
        pools[name] = found
    return pools


def pool_names(paths: Mapping[str, str]) -> list[str]:
    """The names of the pools of the files."""
    return [
        name
        for given, path in paths.items()
        for name in ([one for _, one, _ in _table(path)] if is_table(Path(path)) else [given])
    ]


def _named_pools(
    paths: Mapping[str, str],
) -> Iterator[tuple[str, Sequence[str], Callable[[str], str]]]:
    """(name of a pool, its document ids, file and line of one of them)."""
    for name, path in paths.items():
        if is_table(Path(path)):
            for where, one, ids in _table(path):
                yield one, ids, lambda _, where=where: where
            continue
        with open_text(path) as stream:
            lines = [line.strip() for line in stream]
        if not any(lines):
            raise DataError(f"the pool {name!r} is empty: {path} holds no document id; give one a line")
        yield (
            name,
            [line for line in lines if line],
            lambda doc_id, path=path, lines=lines: f"{path}:{lines.index(doc_id) + 1}",
        )


def _table(path: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(file and line, name, document ids) of each row of a file of many pools."""
    for line, row in table_rows(Path(path)):
        where = f"{path}:{line}"
        if isinstance(row, str):
            raise DataError(f"{where}: {row}")
        name, ids = text_value(row, "pool", where), text_values(row, "doc_ids", where)
        if not name or not ids:
            raise DataError(f"{where}: a pool needs a name under 'pool' and its documents under 'doc_ids'")
        yield where, name, ids


def require_pools(queries: Iterable[Query], pools: Sequence[str]) -> None:
    """ConfigError for a query whose pool is unknown."""
    known = set(pools)
    for query in queries:
        if query.pool is not None and query.pool not in known:
            raise ConfigError(
                f"the query {query.query_id!r} is of the pool {query.pool!r}, which is not among pools; there are "
                f"{', '.join(pools[:5])}{', …' if len(pools) > 5 else ''}"
            )


def retrieve_in_pools(
    retriever: Retriever, queries: Sequence[Query], k: int, pools: Pools
) -> Iterator[Ranking]:
    """One ranking per query, in order, over its pool, or over all documents where it names none, or there are no `pools`.

    Consecutive queries of one pool are retrieved together: sort queries by pool where many pools alternate.
    """
    if not pools:
        yield from retriever.retrieve(queries, k)
        return
    for name, group in groupby(queries, key=lambda query: query.pool):
        yield from retriever.retrieve(list(group), k, allowed=None if name is None else pools[name])
