"""Results of LamRA, VLM2Vec and FLMR as runs, so that they are scored here without running anything again.

Knows nothing of queries beyond their ids, and nothing of relevance.
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
from gemkr.types import Hit

LAMRA = ("_query_names.json", "_cand_names.json", "_scores.json")
"""The ends of the three files of a LamRA result."""
VLM2VEC = "_pred.jsonl"


def read_lamra(path: str | Path, ties: str = "doc_id") -> dict[str, list[Hit]]:
    """Read a LamRA result, given any of its three files: `X_query_names.json` (ids), `X_cand_names.json` (a list of ids for
    each) and `X_scores.json` (their scores).

    Raises DataError naming file and list for files that do not belong together, an id with white space, a score that is
    no finite number, a document that a query lists twice, and a query that is listed twice.
    """
    stem = next(str(path).removesuffix(end) for end in LAMRA if str(path).endswith(end))
    files = [Path(f"{stem}{end}") for end in LAMRA]
    lists = [load_json(file) for file in files]
    for file, values in zip(files, lists, strict=True):
        if not isinstance(values, list):
            raise DataError(
                f"{file} is no part of a LamRA result: a list with an entry for each query is needed"
            )
        if len(values) != len(lists[0]):
            raise DataError(
                f"{file} has {len(values)} entries, {files[0]} {len(lists[0])}; give the files of one result"
            )
    run: dict[str, list[Hit]] = {}
    for number, (query_id, names, scores) in enumerate(zip(*lists, strict=True)):
        where = f"{files[1]}: list {number}"
        if not isinstance(names, list) or not isinstance(scores, list) or len(names) != len(scores):
            raise DataError(f"{where} has not as many ids as its entry in {files[2]} has scores")
        if str(query_id) in run:
            raise DataError(f"{files[0]}: the query {query_id!r} is listed twice; keep one entry")
        run[_id(query_id, "query", f"{files[0]}: entry {number}")] = by_score(
            _hits(zip(names, scores, strict=True), where), ties
        )
    return run


def read_flmr(path: str | Path, ties: str = "doc_id") -> dict[str, list[Hit]]:
    """Read an FLMR report: `{question_id: {"retrieved_passage": [{"passage_id", "score"}], …}}`.

    Raises DataError naming file and question for an entry of another form, and for what `read_lamra` refuses of a list.
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
        run[_id(query_id, "query", where)] = by_score(_hits(pairs, where), ties)
    if not run:
        raise DataError(f"the run {path} holds no hit")
    return run


def read_vlm2vec(path: str | Path, query_ids: Sequence[str]) -> dict[str, list[Hit]]:
    """Read VLM2Vec's `_pred.jsonl`: per query, in the order of `query_ids`, all names of its candidates, best first.

    A name is a text, a picture's path or an id; `mmeb.candidate_id` makes the `doc_id` of it. A name that stands again is
    left out, scores are -rank. Raises DataError naming file and line for a broken row, and for another number of rows than queries.
    """
    rankings = []
    for line, row in json_lines(Path(path)):
        names = row.get("prediction") if isinstance(row, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
            wrong = row if isinstance(row, str) else "the row has no list 'prediction' of names"
            raise DataError(f"{path}:{line}: {wrong}; give a file of VLM2Vec's predictions")
        ids = dict.fromkeys(
            candidate_id(clean_text(str(name), "a name", f"{path}:{line}"), None) for name in names
        )
        rankings.append(
            [Hit(_id(name, "document", f"{path}:{line}"), -float(r)) for r, name in enumerate(ids, 1)]
        )
    if len(rankings) != len(query_ids):
        raise DataError(
            f"{path} holds {len(rankings)} rankings for {len(query_ids)} queries; give the queries of that run"
        )
    return dict(zip(query_ids, rankings, strict=True))


def _hits(pairs: Iterable[tuple[Any, Any]], where: str) -> list[Hit]:
    hits: dict[str, Hit] = {}
    for name, score in pairs:
        doc_id = _id(name, "document", where)
        if doc_id in hits:
            raise DataError(f"{where} names the document {doc_id!r} twice; keep one")
        if not isinstance(score, (int, float)) or isinstance(score, bool) or not math.isfinite(score):
            raise DataError(f"{where}: the score {score!r} of document {doc_id!r} must be a finite number")
        hits[doc_id] = Hit(doc_id, float(score))
    return list(hits.values())


def _id(name: Any, what: str, where: str) -> str:
    if not isinstance(name, (str, int)) or isinstance(name, bool):
        raise DataError(f"{where}: the {what} id {str(name)[:40]!r} must be a string")
    if (fault := id_fault(str(name), what)) is not None:
        raise DataError(f"{where}: {fault}; correct it")
    return str(name)
