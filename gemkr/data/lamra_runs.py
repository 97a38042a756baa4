"""Results of LamRA as runs: its retrieval, and what its rerankers made of it.

A reranker's file names no documents: its scores and answers follow the order of the retrieval that was reranked, whose files must lie
beside it, or in `LamRA_Ret_eval_results` beside its folder, where LamRA puts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gemkr.data.peer_runs import checked_hits, checked_id
from gemkr.data.ties import by_score
from gemkr.data.values import load_json
from gemkr.errors import DataError
from gemkr.types import Hit

QUERIES, NAMES, SCORES = RETRIEVAL = ("_query_names.json", "_cand_names.json", "_scores.json")
"""The ends of the three files of a retrieval."""
POINTWISE, LISTWISE = ("_queryid2rerank_score.json", "_outputs_listwise.json")
"""The ends of the files of its rerankers."""
FOLDER = "LamRA_Ret_eval_results"
DEPTH = re.compile(r"_top(\d+)_")
ANSWER = re.compile(r"Ans: \((\d+)\)")


def read_lamra(path: str | Path, ties: str = "doc_id") -> dict[str, list[Hit]]:
    """Read a retrieval, given any of its three files: `X_query_names.json` (ids), `X_cand_names.json` (a list of ids for
    each) and `X_scores.json` (their scores; as LamRA writes them, in a list of one list).

    Raises DataError naming file and list for files that do not belong together, an id with white space, a score that is
    no finite number, a document that a query lists twice, and a query that is listed twice.
    """
    stem = next(str(path).removesuffix(end) for end in RETRIEVAL if str(path).endswith(end))
    files = [Path(f"{stem}{end}") for end in RETRIEVAL]
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
        if isinstance(scores, list) and len(scores) == 1 and isinstance(scores[0], list):
            scores = scores[0]
        if not isinstance(names, list) or not isinstance(scores, list) or len(names) != len(scores):
            raise DataError(f"{where} has not as many ids as its entry in {files[2]} has scores")
        if str(query_id) in run:
            raise DataError(f"{files[0]}: the query {query_id!r} is listed twice; keep one entry")
        run[checked_id(query_id, "query", f"{files[0]}: entry {number}")] = by_score(
            checked_hits(zip(names, scores, strict=True), where), ties
        )
    return run


def read_lamra_reranked(path: str | Path, ties: str = "doc_id") -> dict[str, list[Hit]]:
    """Read a pointwise reranker's `TASK_topN_..._queryid2rerank_score.json`: `{query_id: [scores]}`, of the first documents of the
    retrieval; the hits have these scores alone, which `gemkr tune-mix` mixes with those of the retrieval.

    Raises DataError naming file and query for another form, a query that the retrieval lacks, more scores than it has documents,
    and what `read_lamra` refuses; and where not exactly one retrieval of the TASK is found.
    """
    run = {}
    for query_id, scores, names, where in _reranked(path):
        if not isinstance(scores, list) or len(scores) > len(names):
            raise DataError(
                f"{where} has not a list of at most {len(names)} scores, as many as the retrieval has documents; give the files of one task"
            )
        run[query_id] = by_score(checked_hits(zip(names[: len(scores)], scores, strict=True), where), ties)
    return run


def read_lamra_listwise(path: str | Path) -> dict[str, list[Hit]]:
    """Read a listwise reranker's `TASK_topN_..._outputs_listwise.json`: `{query_id: "Ans: (k)"}`, k from 1 of the first N documents
    of the retrieval, which comes first, before the others of the N in their order; scores are -rank.

    Where the answer names none of them, the order of the retrieval stands: LamRA's script leaves the query out, and so judges all
    that follow by the wrong qrels. Raises DataError as `read_lamra_reranked` does.
    """
    depth = DEPTH.search(Path(path).name)
    run = {}
    for query_id, answer, names, where in _reranked(path):
        if not isinstance(answer, str):
            raise DataError(
                f"{where} has no answer such as 'Ans: (1)'; give a file of LamRA's listwise reranker"
            )
        shown = names[: int(depth[1]) if depth else 5]
        chosen = ANSWER.fullmatch(answer.strip())
        best = int(chosen[1]) if chosen else 0
        if 1 <= best <= len(shown):
            shown = [shown[best - 1], *shown[: best - 1], *shown[best:]]
        run[query_id] = [Hit(name, -float(rank)) for rank, name in enumerate(shown, 1)]
    return run


def _reranked(path: str | Path) -> Iterator[tuple[str, Any, list[str], str]]:
    """(query id, what the file says of it, ids of its documents in the order of the retrieval's file, file and query)."""
    path = Path(path)
    found = load_json(path)
    if not isinstance(found, dict) or not found:
        raise DataError(
            f"{path} is no result of a LamRA reranker: an object with a key for each query is needed"
        )
    listed = _listed(_retrieval_of(path))
    for query_id, value in found.items():
        where = f"{path}: query {query_id!r}"
        if query_id not in listed:
            raise DataError(
                f"{where} is not in the retrieval beside it; give the retrieval that was reranked"
            )
        yield checked_id(query_id, "query", where), value, listed[query_id], where


def _retrieval_of(path: Path) -> Path:
    """The file of the documents' names that a reranker's file belongs to."""
    task = re.split(r"_top\d+_|_test_", path.name)[0]
    places = dict.fromkeys(
        place.resolve() for place in (path.parent, path.resolve().parent.parent / FOLDER) if place.is_dir()
    )
    files = (file for place in places for file in sorted(place.iterdir()))
    found = [file for file in files if task in file.name and file.name.endswith(NAMES)]
    if len(found) != 1:
        raise DataError(
            f"{path} names no documents, and {len(found) or 'no'} files like *{task}*{NAMES} are in its folder or in {FOLDER} beside "
            "that; put the three files of the one retrieval that was reranked beside it"
        )
    return found[0]


def _listed(names: Path) -> dict[str, list[str]]:
    """Query id -> the ids of its documents as they stand in the file, which is the order that rerankers follow."""
    hits = read_lamra(names)
    queries = load_json(Path(f"{str(names).removesuffix(NAMES)}{QUERIES}"))
    listed = dict(zip(map(str, queries), load_json(names), strict=True))
    return {query_id: [str(name) for name in listed[query_id]] for query_id in hits}
