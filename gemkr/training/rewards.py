"""What a clue was worth: the share of the documents one would show for it that are relevant.

The reward of preference tuning (ReAuSE, Long et al. 2025, asks whether what was retrieved holds the answer; here a clue is judged by
itself). Knows clue documents and judges; nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from gemkr.errors import DataError
from gemkr.evaluation.judge import Judge
from gemkr.retrievers.scoring import ClueDocuments
from gemkr.training.judged import JudgedClue
from gemkr.types import Clue, Query


def clue_rewards(
    query: Query, clues: Sequence[Clue], lookup: ClueDocuments, judge: Judge, most: int
) -> np.ndarray:
    """float64[clues]: of each clue's best `most` documents by the second scorer, or of all where it names fewer,
    the share that `judge` holds relevant. Judges every document once, whichever clues name it.
    """
    table = lookup.table(query, clues)
    best = np.argsort(-table.second, kind="stable")
    shown_rows = [best[held[best]][:most] for held in table.holds]
    names = {int(row): lookup.index.doc_ids[int(table.docs[row])] for rows in shown_rows for row in rows}
    relevant = judge.relevant(query, names.values())
    worth = {row: name in relevant for row, name in names.items()}
    return np.array([np.mean([worth[int(row)] for row in rows]) if len(rows) else 0.0 for rows in shown_rows])


def judge_clues(
    queries: Iterable[Query],
    clues: Mapping[str, Sequence[Clue]],
    lookup: ClueDocuments,
    judge: Judge,
    most: int = 5,
) -> Iterator[JudgedClue]:
    """Every clue of every query with its reward, in the order of the queries, most probable clue first.

    Raises DataError for a query that has no clues in the run.
    """
    for query in queries:
        if query.query_id not in clues:
            raise DataError(
                f"the run holds no clues of query {query.query_id!r}; let it finish, or start it anew with --restart"
            )
        written = sorted(clues[query.query_id], key=lambda clue: -clue.log_prob)
        rewards = clue_rewards(query, written, lookup, judge, most)
        for clue, reward in zip(written, rewards.tolist(), strict=True):
            yield JudgedClue(query.query_id, tuple(clue.tokens), clue.text, reward)
