"""Named pools: the part of the corpus that may answer a query, such as a task's candidates in M-BEIR.

A local pool is the global one filtered, exactly: the retriever ranks the allowed documents as they stand in the whole ranking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from gemkr.data.text_files import id_fault, open_text
from gemkr.errors import ConfigError, DataError
from gemkr.interfaces import Retriever
from gemkr.types import Query, Ranking

Pools = Mapping[str, frozenset[str]]
"""Name of a pool -> its doc_ids."""


def read_pools(paths: Mapping[str, str], doc_ids: Iterable[str]) -> Pools:
    """The pools of files with one doc_id a line (plain or .gz); DataError for an empty one, or an id that holds white space
    or is not in the corpus."""
    known, pools = frozenset(doc_ids), {}
    for name, path in paths.items():
        with open_text(path) as stream:
            lines = [line.strip() for line in stream]
        ids = frozenset(line for line in lines if line)
        if not ids:
            raise DataError(f"the pool {name!r} is empty: {path} holds no document id; give one a line")
        for number, line in enumerate(lines, 1):
            if line and (fault := id_fault(line, "document")) is not None:
                raise DataError(f"{path}:{number}: {fault}; correct it")
        if not ids <= known:
            line = next(number for number, one in enumerate(lines, 1) if one and one not in known)
            raise DataError(
                f"{path}:{line}: the pool {name!r} names the document {lines[line - 1]!r}, which the corpus does not hold; "
                "correct the id, or use the corpus that the pool was made for"
            )
        pools[name] = ids
    return pools


def require_pools(queries: Iterable[Query], pools: Mapping[str, object]) -> None:
    """ConfigError for a query whose pool is unknown."""
    for query in queries:
        if query.pool is not None and query.pool not in pools:
            raise ConfigError(
                f"the query {query.query_id!r} is of the pool {query.pool!r}, which is not among pools; there are "
                f"{', '.join(pools)}"
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
