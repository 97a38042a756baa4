"""Runs as files: 6-column TREC, our JSON lines with evidence, and the GeMKR authors' list of lists of ids.

Knows nothing of queries beyond their ids, and nothing of relevance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gemkr.data.corpus import open_text
from gemkr.errors import DataError
from gemkr.files import write_atomically
from gemkr.types import Hit, Ranking

TAG = "gemkr"


def read_run(path: str | Path) -> dict[str, list[Hit]]:
    """Read `query_id Q0 doc_id rank score tag` lines, plain or `.gz`; hits come by falling score, then by rank.

    Raises DataError naming file and line for a row without six columns, a rank or score that is no number (or none with
    an order: nan and infinities), or a document that a query names twice; and for an empty file.
    """
    rows: dict[str, dict[str, tuple[float, int]]] = {}
    with open_text(path) as stream:
        for line, text in enumerate(stream, 1):
            columns = text.split()
            if not columns:
                continue
            if len(columns) != 6:
                raise DataError(
                    f"{path}:{line}: the row has {len(columns)} columns, a run has 6 "
                    "(query, Q0, document, rank, score, tag)"
                )
            query_id, _, doc_id, rank, score, _ = columns
            found = rows.setdefault(query_id, {})
            if doc_id in found:
                raise DataError(
                    f"{path}:{line}: document {doc_id!r} stands twice in the list of query {query_id!r}; keep one row"
                )
            try:
                found[doc_id] = (_finite(score), int(rank))
            except ValueError:
                raise DataError(
                    f"{path}:{line}: the rank {rank!r} must be an integer and the score {score!r} a finite number"
                ) from None
    if not rows:
        raise DataError(f"the run {path} holds no hit")
    return {
        query_id: [
            Hit(doc_id, score)
            for doc_id, (score, _) in sorted(found.items(), key=lambda row: (-row[1][0], row[1][1]))
        ]
        for query_id, found in rows.items()
    }


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def trec_lines(ranking: Ranking, tag: str = TAG) -> str:
    """The TREC lines of one query, ranks from 1.

    Scores are written as float32 and fall strictly, by the smallest step where two are equal or out of order, so
    that every reader that sorts by score keeps our order. Raises DataError for an id with white space.
    """
    lines = []
    last = np.float32(np.inf)
    for rank, hit in enumerate(ranking.hits, 1):
        for name in (ranking.query_id, hit.doc_id):
            if not name or len(name.split()) != 1 or name != name.strip():
                raise DataError(f"the id {name!r} cannot stand in a TREC run; ids must not hold white space")
        last = min(np.float32(hit.score), np.nextafter(last, np.float32(-np.inf)))
        lines.append(f"{ranking.query_id} Q0 {hit.doc_id} {rank} {last:.9g} {tag}\n")
    return "".join(lines)


def write_run(path: str | Path, rankings: Iterable[Ranking], tag: str = TAG) -> None:
    """Write a whole TREC run under a temporary name first."""
    write_atomically(path, "".join(trec_lines(ranking, tag) for ranking in rankings))


def read_id_lists(path: str | Path, query_ids: Sequence[str]) -> dict[str, list[Hit]]:
    """Read the GeMKR authors' result file: a json list with one list of document ids per query, in query order.

    A document that a list names again is left out, as their script does before it scores; scores are -rank. Raises DataError when the number of lists is
    not that of the queries.
    """
    with open_text(path) as stream:
        try:
            lists = json.load(stream)
        except ValueError as error:
            raise DataError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(lists, list) or not all(isinstance(ids, list) for ids in lists):
        raise DataError(f"{path} is no result file: a list of lists of document ids is needed")
    if len(lists) != len(query_ids):
        raise DataError(
            f"{path} holds {len(lists)} lists of documents for {len(query_ids)} queries; give the queries of that run"
        )
    return {
        query_id: [Hit(doc_id, -float(rank)) for rank, doc_id in enumerate(dict.fromkeys(map(str, ids)), 1)]
        for query_id, ids in zip(query_ids, lists)
    }
