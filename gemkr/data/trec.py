"""Runs as files: TREC's, UniIR's and MS MARCO's columns, written as TREC's, and the GeMKR authors' list of lists of ids.

Knows nothing of queries beyond their ids, and nothing of relevance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gemkr.data.columns import read_columns
from gemkr.data.text_files import id_fault, open_text
from gemkr.data.ties import TIES, by_score
from gemkr.errors import ConfigError, DataError
from gemkr.files import write_atomically
from gemkr.types import Hit, Ranking

TAG = "gemkr"
_LAYOUTS = {
    6: ("query", "", "document", "rank", "score", ""),
    7: ("query", "", "document", "rank", "score", "", ""),
    3: ("query", "document", "rank"),
}
_COLUMNS = (
    "a run has 6 (query, Q0, document, rank, score, tag), UniIR's a seventh (task), and MS MARCO's 3 "
    "(query, document, rank)"
)


def read_run(path: str | Path, *, ties: str = "doc_id") -> dict[str, list[Hit]]:
    """Read a run, plain or `.gz`, in columns between tabs or white space, recognized by their number:

    - `query_id Q0 doc_id rank score tag`: TREC;
    - `query_id Q0 doc_id rank score run_id task_id`: UniIR;
    - `query_id doc_id rank`: MS MARCO; scores are -rank.

    Hits come by falling score, as trec_eval compares them (`gemkr.data.ties`), whatever the ranks say; equal scores by
    descending document id under `ties` "doc_id", by rank and then by line under "file".
    Raises DataError naming file and line for another number of columns, an id that is empty or holds white space, a rank or
    score that is no number (or none with an order: nan and infinities), or a document that a query names twice; and for an
    empty file.
    """
    if ties not in TIES:
        raise ConfigError(f"the order of ties {ties!r} is unknown; use {' or '.join(TIES)}")
    rows: dict[str, dict[str, tuple[int, float]]] = {}
    for where, (query_id, doc_id, rank, score) in read_columns(
        path, _COLUMNS, _LAYOUTS, {}, ("rank", "score")
    ):
        found = rows.setdefault(query_id, {})
        if doc_id in found:
            raise DataError(
                f"{where}: document {doc_id!r} stands twice in the list of query {query_id!r}; keep one row"
            )
        try:
            found[doc_id] = int(rank), -float(int(rank)) if score is None else _finite(score)
        except ValueError:
            also = "" if score is None else f" and the score {score!r} a finite number"
            raise DataError(f"{where}: the rank {rank!r} must be an integer{also}") from None
    if not rows:
        raise DataError(f"the run {path} holds no hit")
    return {
        query_id: by_score(
            [Hit(doc_id, score) for doc_id, (_, score) in sorted(found.items(), key=lambda row: row[1][0])],
            ties,
        )
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
    that every reader that sorts by score keeps our order, as doubles or as floats. Raises DataError for an id with white
    space, and for a score that is no number or lies below all float32.
    """
    lines = []
    last = np.float32(np.inf)
    for rank, hit in enumerate(ranking.hits, 1):
        for name, what in ((ranking.query_id, "query"), (hit.doc_id, "document")):
            if (fault := id_fault(name, what)) is not None:
                raise DataError(f"{fault}; it cannot stand in a TREC run")
        last = min(_float32(hit.score), np.nextafter(last, np.float32(-np.inf)))
        if not np.isfinite(last):
            raise DataError(
                f"the score {hit.score} of document {hit.doc_id!r} for query {ranking.query_id!r} cannot stand in a run; "
                "retrievers need finite scores"
            )
        lines.append(f"{ranking.query_id} Q0 {hit.doc_id} {rank} {last:.9g} {tag}\n")
    return "".join(lines)


def _float32(score: float) -> np.float32:
    with np.errstate(over="ignore"):
        return np.float32(score)


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
    for number, ids in enumerate(lists):
        if (fault := next(filter(None, (id_fault(str(name), "document") for name in ids)), None)) is not None:
            raise DataError(f"{path}: list {number}: {fault}; correct it")
    if len(lists) != len(query_ids):
        raise DataError(
            f"{path} holds {len(lists)} lists of documents for {len(query_ids)} queries; give the queries of that run"
        )
    return {
        query_id: [Hit(doc_id, -float(rank)) for rank, doc_id in enumerate(dict.fromkeys(map(str, ids)), 1)]
        for query_id, ids in zip(query_ids, lists)
    }
