"""Results of VLM2Vec, FLMR and UniRAG as runs, so that they are scored here without running anything again, and checks of such files.

Knows nothing of relevance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gemkr.data.mmeb import candidate_id
from gemkr.data.text_files import id_fault, json_lines
from gemkr.data.ties import by_score
from gemkr.data.values import clean_text, load_json
from gemkr.errors import DataError
from gemkr.types import Hit, Query

VLM2VEC = "_pred.jsonl"
RETRIEVED = "_retrieved.jsonl"


def read_flmr(path: str | Path, ties: str = "doc_id") -> dict[str, list[Hit]]:
    """Read an FLMR report: `{question_id: {"retrieved_passage": [{"passage_id", "score"}], …}}`.

    Raises DataError naming file and question for an entry of another form, an id with white space, a
    score that is no finite number, and a document that is listed twice.
    """
    report = load_json(Path(path))
    run = {}
    for query_id, entry in report.items():
        where = f"{path}: question {query_id!r}"
        try:
            pairs = [(row["passage_id"], row["score"]) for row in entry["retrieved_passage"]]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{where} lists no 'retrieved_passage' with 'passage_id' and 'score' ({error!r}); give an FLMR report"
            ) from error
        run[checked_id(query_id, "query", where)] = by_score(checked_hits(pairs, where), ties)
    if not run:
        raise DataError(f"the run {path} holds no hit")
    return run


def read_vlm2vec(path: str | Path, queries: Sequence[Query]) -> dict[str, list[Hit]]:
    """Read VLM2Vec's `_pred.jsonl`: per query, in the order of `queries`, all names of its candidates, best first.

    A name is a text, a picture's path, both with ":" between them, or an id; `mmeb.candidate_id` makes the `doc_id` of it. Names of a
    picture are "PATH:" in sets that look for pictures by pictures, and PATH alone for pictures with texts in those that look by texts
    (WebQA, EDIS): the one under `label` stands for the query's gold document. A name that stands again is left out, scores are -rank.
    Raises DataError naming file and line for a broken row, for another number of rows than queries, and for a `label` that is none of
    the query's gold documents.
    """
    rows = []
    for line, row in json_lines(Path(path)):
        names = row.get("prediction") if isinstance(row, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
            wrong = row if isinstance(row, str) else "the row has no list 'prediction' of names"
            raise DataError(f"{path}:{line}: {wrong}; give a file of VLM2Vec's predictions")
        rows.append((f"{path}:{line}", names, row.get("label")))
    if len(rows) != len(queries):
        raise DataError(
            f"{path} holds {len(rows)} rankings for {len(queries)} queries; give the queries of that run"
        )
    run = {}
    for query, (where, names, labels) in zip(queries, rows, strict=True):
        gold = _gold(labels if isinstance(labels, list) else [], query, where)
        bare = all(str(name).endswith(":") for name in names)
        ids = (_called(str(name).removesuffix(":") if bare else name, where) for name in names)
        ranked = dict.fromkeys(gold.get(name.rstrip(":"), name) for name in ids)
        run[query.query_id] = [
            Hit(checked_id(name, "document", where), -float(rank)) for rank, name in enumerate(ranked, 1)
        ]
    return run


def _gold(labels: Sequence[Any], query: Query, where: str) -> dict[str, str]:
    """What VLM2Vec calls the gold candidates of a query, without a ":" at the end -> their ids."""
    found = {}
    for label in labels:
        called = _called(label, where).rstrip(":")
        plain = called.replace('"', "")
        for doc_id in query.positives:
            if f"{doc_id}:".replace('"', "").startswith(f"{plain}:"):
                found.setdefault(called, doc_id)
    if labels and query.positives and not found:
        raise DataError(
            f"{where}: the label {str(labels[0])[:60]!r} is not the gold document {query.positives[0]!r} of the query "
            f"{query.query_id!r}; give the queries of that run, in its order"
        )
    return found


def _called(name: Any, where: str) -> str:
    return candidate_id(clean_text(str(name), "a name", where), None)


def read_retrieved(path: str | Path) -> dict[str, list[Hit]]:
    """Read UniIR's `_retrieved.jsonl` (also of `gemkr export-unirag`): rows of a `query` with its `qid`, and its `candidates` with
    their `did`, best first; scores are -rank.

    Raises DataError naming file and line for a row of another form, an id with white space, and a query or document that is
    listed twice.
    """
    run: dict[str, list[Hit]] = {}
    for line, row in json_lines(Path(path)):
        where = f"{path}:{line}"
        try:
            if isinstance(row, str):
                raise TypeError(row)
            query_id, names = row["query"]["qid"], [one["did"] for one in row["candidates"]]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{where} lists no 'query' with 'qid' and 'candidates' with 'did' ({error!r}); give a file of UniIR's retrieved candidates"
            ) from error
        if checked_id(query_id, "query", where) in run:
            raise DataError(f"{where}: the query {query_id!r} stands twice; keep one row")
        run[str(query_id)] = checked_hits([(name, -float(r)) for r, name in enumerate(names, 1)], where)
    if not run:
        raise DataError(f"the run {path} holds no query")
    return run


def checked_hits(pairs: Iterable[tuple[Any, Any]], where: str) -> list[Hit]:
    """Hits of (id, score) in their order; DataError for what is no id, no finite number, or stands twice."""
    hits: dict[str, Hit] = {}
    for name, score in pairs:
        doc_id = checked_id(name, "document", where)
        if doc_id in hits:
            raise DataError(f"{where} names the document {doc_id!r} twice; keep one")
        if not isinstance(score, (int, float)) or isinstance(score, bool) or not math.isfinite(score):
            raise DataError(f"{where}: the score {score!r} of document {doc_id!r} must be a finite number")
        hits[doc_id] = Hit(doc_id, float(score))
    return list(hits.values())


def checked_id(name: Any, what: str, where: str) -> str:
    """An id as text; DataError for one that is none, or holds white space."""
    if not isinstance(name, (str, int)) or isinstance(name, bool):
        raise DataError(f"{where}: the {what} id {str(name)[:40]!r} must be a string")
    if (fault := id_fault(str(name), what)) is not None:
        raise DataError(f"{where}: {fault}; correct it")
    return str(name)
