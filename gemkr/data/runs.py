"""A run file of any form, recognized by its name: TREC, `run.jsonl`, the GeMKR authors' `.json`, and the results of LamRA,
VLM2Vec, FLMR and UniRAG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gemkr.data.lamra_runs import (
    LISTWISE,
    POINTWISE,
    RETRIEVAL,
    read_lamra,
    read_lamra_listwise,
    read_lamra_reranked,
)
from gemkr.data.peer_runs import RETRIEVED, VLM2VEC, read_flmr, read_retrieved, read_vlm2vec
from gemkr.data.records import read_records
from gemkr.data.text_files import open_text
from gemkr.data.trec import read_id_lists, read_run
from gemkr.errors import DataError
from gemkr.types import Query, Run


def load_run(path: str | Path, queries: Sequence[Query] = (), ties: str = "doc_id") -> Run:
    """Query id -> hits, best first; the authors' `.json` and VLM2Vec's `_pred.jsonl` need the queries for their order.

    Equal scores are ordered as `gemkr.data.ties.TIES` says, where the form is no ranked list (`is_ranked`).
    """
    name = str(path)
    if name.endswith(RETRIEVAL):
        return read_lamra(path, ties)
    if name.endswith(POINTWISE):
        return read_lamra_reranked(path, ties)
    if name.endswith(LISTWISE):
        return read_lamra_listwise(path)
    if name.endswith(RETRIEVED):
        return read_retrieved(path)
    if name.endswith(".jsonl") and not name.endswith(VLM2VEC):
        return {ranking.query_id: ranking.hits for ranking in read_records(path)}
    if not name.endswith((".json", VLM2VEC)):
        return read_run(path, ties=ties)
    if not is_ranked(path):
        return read_flmr(path, ties)
    if not queries:
        raise DataError(f"{path} names documents without queries; give --queries in the order of that run")
    if name.endswith(VLM2VEC):
        return read_vlm2vec(path, queries)
    return read_id_lists(path, [query.query_id for query in queries])


def is_ranked(path: str | Path) -> bool:
    """Whether a run is a ranked list for each query, whatever the scores: `run.jsonl`, `_pred.jsonl`, `_retrieved.jsonl`, LamRA's
    listwise answers, the authors' lists."""
    name = str(path)
    if not name.endswith(".json"):
        return name.endswith(".jsonl")
    if name.endswith((*RETRIEVAL, POINTWISE, LISTWISE)):
        return name.endswith(LISTWISE)
    with open_text(path) as stream:  # FLMR's report is an object, the authors' file a list
        return not stream.read(1024).lstrip().startswith("{")
