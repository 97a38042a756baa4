"""The order of hits with equal scores: trec_eval's, or that of the file.

Knows nothing of relevance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gemkr.types import Hit, Run

TIES = ("doc_id", "file")
"""Ways to order equal scores: by descending document id, as trec_eval does, or by the rank column, then by line."""


def compared_scores(hits: Sequence[Hit]) -> np.ndarray:
    """float32[n]: the scores as trec_eval, and with it pytrec_eval, ir_measures and pyserini, hold them to compare.

    They read a score as C float, so that scores that differ beyond about 7 digits are equal to them, and so are all beyond
    3.4e38. (Of ir_measures, `RR@k` alone comes from MS MARCO's script, which compares doubles and orders equal ones by
    ascending id.)
    """
    with np.errstate(over="ignore"):
        return np.array([hit.score for hit in hits], dtype=np.float64).astype(np.float32)


def by_score(hits: Sequence[Hit], ties: str) -> list[Hit]:
    """Hits by falling score (`compared_scores`); equal ones by descending id under "doc_id", as they come under "file".

    Ids are compared by code points, which is the order of their UTF-8 bytes (strcmp). O(n log n).
    """
    if ties == "doc_id":
        hits = sorted(hits, key=lambda hit: hit.doc_id, reverse=True)
    order = np.argsort(-compared_scores(hits), kind="stable")
    return [hits[place] for place in order.tolist()]


def ties_across(run: Run, query_ids: Iterable[str], k: int) -> int:
    """How many of the queries have equal scores at ranks k and k + 1, so that what counts is decided by the order of ties."""
    pairs = (run.get(query_id, ())[k - 1 : k + 1] for query_id in query_ids)
    return sum(len(pair) == 2 and bool(np.equal(*compared_scores(pair))) for pair in pairs)
