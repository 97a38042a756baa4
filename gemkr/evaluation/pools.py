"""Named pools: the part of the corpus that may answer a query, such as a task's candidates in M-BEIR.

A local pool is the global one filtered, exactly: the retriever ranks the allowed documents as they stand in the whole ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from gemkr.data.corpus_rows import ID_NAMES
from gemkr.data.tables import is_table, table_rows
from gemkr.data.text_files import id_fault, open_text
from gemkr.data.values import first_key, text_value, text_values
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import Retriever
from gemkr.types import Query, Ranking

Pools = Mapping[str, frozenset[str]]
"""Name of a pool -> its doc_ids."""


def read_pools(paths: Mapping[str, str], doc_ids: Iterable[str]) -> Pools:
    """The pools of files: one doc_id a line (plain or .gz); a `.jsonl` of documents, such as M-BEIR's local candidates, of which
    the ids alone are read, row by row; or a `.jsonl` of many pools, which have names of their own
    (`{"pool": name, "doc_ids": [...]}`).

    DataError naming file and line for an empty one, a name that repeats, or an id that holds white space or is not in the
    corpus. Memory: a set for each pool, of the texts that `doc_ids` has.
    """
    known, pools = {doc_id: doc_id for doc_id in doc_ids}, {}
    for name, rows in _named_pools(paths):
        found, place = set(), ""
        for place, doc_id in rows:
            if (same := known.get(doc_id)) is None:
                if (fault := id_fault(doc_id, "document")) is not None:
                    raise DataError(f"{place}: {fault}; correct it")
                raise DataError(
                    f"{place}: the pool {name!r} names the document {doc_id!r}, which the corpus does not hold; "
                    "correct the id, or use the corpus that the pool was made for"
                )
            found.add(same)
        if name in pools:
            raise DataError(f"{place}: the pool {name!r} is given twice; rename one")
        if not found:
            raise DataError(
                f"the pool {name!r} is empty: {paths[name]} holds no document id; give one a line"
            )
        pools[name] = frozenset(found)
    return pools


def pool_names(paths: Mapping[str, str]) -> list[str]:
    """The names of the pools of the files."""
    return [
        name
        for given, path in paths.items()
        for name in ([one for one, _ in _table(path)] if _holds_many(path) else [given])
    ]


def _named_pools(paths: Mapping[str, str]) -> Iterator[tuple[str, Iterable[tuple[str, str]]]]:
    """(name of a pool, file and line of each of its document ids, and the id)."""
    for name, path in paths.items():
        if _holds_many(path):
            yield from _table(path)
        else:
            yield name, _candidates(path) if is_table(Path(path)) else _lines(path)


def _holds_many(path: str) -> bool:
    """Whether a file is a table of pools, and none of documents: by its first row."""
    if not is_table(Path(path)):
        return False
    row = next(table_rows(Path(path)), (0, ""))[1]
    return not isinstance(row, dict) or "pool" in row or not any(name in row for name in ID_NAMES)


def _lines(path: str) -> Iterator[tuple[str, str]]:
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            if text.strip():
                yield f"{path}:{line}", text.strip()


def _candidates(path: str) -> Iterator[tuple[str, str]]:
    for line, row in table_rows(Path(path)):
        where = f"{path}:{line}"
        if isinstance(row, str):
            raise DataError(f"{where}: {row}")
        doc_id = text_value(row, first_key(row, ID_NAMES), where)
        if doc_id is None:
            raise DataError(f"{where}: no document id; one of the keys {', '.join(ID_NAMES)} must hold it")
        yield where, doc_id


def _table(path: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(name, file and line and id of each document) of each row of a file of many pools."""
    line = 0
    for line, row in table_rows(Path(path)):
        where = f"{path}:{line}"
        if isinstance(row, str):
            raise DataError(f"{where}: {row}")
        name, ids = text_value(row, "pool", where), text_values(row, "doc_ids", where)
        if not name or not ids:
            raise DataError(f"{where}: a pool needs a name under 'pool' and its documents under 'doc_ids'")
        yield name, [(where, doc_id) for doc_id in ids]
    if not line:
        raise DataError(f"the pool file {path} is empty; give it documents, or pools and their documents")


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
