"""An evaluation against another one, query by query: what an ablation costs, with interval and p value.

Reads per_query.jsonl of both folders and pairs the queries that both have, so that a run over the first thousand
questions is compared with a full one on these thousand alone. Knows nothing of documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.evaluation.significance import paired_test

TESTED = ("P@5", "S@5", "S@10", "R@1", "R@5", "R@20")


def per_query(folder: Path, retriever: str) -> dict[str, dict[str, float]]:
    """query_id -> {metric: value} of one retriever; DataError when the folder does not tell."""
    path = folder / "per_query.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["query_id"]: row["rows"][retriever] for row in rows if retriever in row["rows"]}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} has no values of {retriever!r} by query ({error!r}); evaluate anew"
        ) from error


def compare(folder: Path, retriever: str, base: Path, base_retriever: str) -> dict[str, Any]:
    """Means of both on their common queries and the paired test of the difference (this one less the base).

    Raises DataError when they have no query in common. About a second for a metric over 2,500 queries.
    """
    ours, theirs = per_query(folder, retriever), per_query(base, base_retriever)
    common = [query_id for query_id in ours if query_id in theirs]
    if not common:
        raise DataError(f"{folder} and {base} have no query in common; compare runs over the same questions")
    tests = {}
    for metric in TESTED:
        if metric in ours[common[0]] and metric in theirs[common[0]]:
            tests[metric] = _test(ours, theirs, common, metric)
    return {"queries": len(common), "tests": tests}


def _test(
    ours: Mapping[str, Mapping[str, float]],
    theirs: Mapping[str, Mapping[str, float]],
    common: list[str],
    metric: str,
) -> dict[str, float]:
    a = np.array([theirs[query_id][metric] for query_id in common])
    b = np.array([ours[query_id][metric] for query_id in common])
    test = paired_test(a, b)
    values = {"base": a.mean(), "mean": b.mean(), "difference": test.difference, "low": test.low}
    values |= {"high": test.high, "p_value": test.p_value}
    return {key: round(float(value), 5) for key, value in values.items()}
