"""The reward of a clue: the share of the documents one would show for it that are relevant.

The reward of preference tuning (ReAuSE, Long et al. 2025, checks whether what was retrieved holds the answer; here a clue is judged by
itself). Knows clue documents and judges; nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from gemkr.data.judged import JudgedClue
from gemkr.evaluation.judge import Judge
from gemkr.retrievers.generative.clue_documents import ClueDocuments
from gemkr.types import Clue, Query


def clue_rewards(
    query: Query, clues: Sequence[Clue], lookup: ClueDocuments, judge: Judge, most: int
) -> np.ndarray:
    """float64[clues]: of each clue's best `most` documents, or of all where it names fewer, the share that `judge` holds
    relevant; 0 for a clue that names none. Judges every document once, whichever clues name it.
    """
    shown = lookup.best(query, clues, most)
    names = {int(doc): lookup.index.doc_ids[int(doc)] for docs in shown for doc in docs}
    relevant = judge.relevant(query, names.values())
    worth = {doc: name in relevant for doc, name in names.items()}
    return np.array([np.mean([worth[int(doc)] for doc in docs]) if len(docs) else 0.0 for docs in shown])


def judge_clues(
    queries: Iterable[Query],
    clues: Mapping[str, Sequence[Clue]],
    lookup: ClueDocuments,
    judge: Judge,
    most: int = 5,
) -> Iterator[JudgedClue]:
    """The clues of every query that `judge` knows, each with its reward, in the order of the queries, most probable first."""
    for query in queries:
        if not judge.knows(query):
            continue
        written = sorted(clues[query.query_id], key=lambda clue: -clue.log_prob)
        rewards = clue_rewards(query, written, lookup, judge, most)
        for clue, reward in zip(written, rewards.tolist(), strict=True):
            yield JudgedClue(query.query_id, tuple(clue.tokens), clue.text, reward)
