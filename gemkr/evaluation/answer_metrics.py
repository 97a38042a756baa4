"""Metrics of free answers: VQA soft accuracy, exact match and token F1, a value per query.

`VQA` is OK-VQA's official rule and needs the ten answers of its annotators. Where a file holds each answer once, their
number is lost, and `VQA_low` is a lower bound of it. `EM` and `F1` are SQuAD's: the best over a query's answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from gemkr.errors import DataError
from gemkr.evaluation.metrics import Scores
from gemkr.text.answers import squad_form, vqa_form
from gemkr.types import Answer, Query

ANNOTATORS = 10
"""Answers of a question whose list holds every annotator's; OK-VQA counts each of its five people twice."""
AT_LEAST = 2
"""How many of the ten an OK-VQA answer has that is listed at all."""
VQA, VQA_LOW = "VQA", "VQA_low"


def vqa_accuracy(answer: str, votes: Sequence[str]) -> float:
    """min(1, matching annotators / 3), averaged over all sets of annotators but one; 0 without any votes.

    An answer that matches m of ten gets 0, .3, .6, .9, 1 for m = 0, 1, 2, 3, 4 or more. Answer and votes are compared in normal
    form, as EvalAI's version of the script does, and unlike it also where all votes are one text.
    """
    form = vqa_form(answer)
    return _leave_one_out(sum(vqa_form(vote) == form for vote in votes), len(votes))


def listed_accuracy(answer: str, answers: Iterable[str]) -> float:
    """The least that `vqa_accuracy` can be when `answers` are those of OK-VQA's annotators, each listed once: 1 for the only
    answer, .6 for one of several."""
    forms = {vqa_form(each) for each in answers}
    if vqa_form(answer) not in forms:
        return 0.0
    return _leave_one_out(ANNOTATORS if len(forms) == 1 else AT_LEAST, ANNOTATORS)


def _leave_one_out(matching: int, votes: int) -> float:
    if not votes:
        return 0.0
    without_one = matching * min(1.0, max(matching - 1, 0) / 3)
    return (without_one + (votes - matching) * min(1.0, matching / 3)) / votes


def exact_match(answer: str, answers: Iterable[str]) -> float:
    """1 when the answer is one of the others, in SQuAD's form."""
    form = squad_form(answer)
    return float(any(squad_form(other) == form for other in answers))


def token_f1(answer: str, answers: Iterable[str]) -> float:
    """The best harmonic mean of precision and recall of the answer's words against one of the others."""
    return max((_f1(squad_form(answer).split(), squad_form(other).split()) for other in answers), default=0.0)


def _f1(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * sum((Counter(ours) & Counter(theirs)).values()) / (len(ours) + len(theirs))


def votes_of(
    queries: Iterable[Query], annotations: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Sequence[str]]:
    """The annotators' answers of each query: those of `annotations`, else of the queries that hold ten or more.

    Raises DataError for a query that the annotations lack.
    """
    if annotations is None:
        return {query.query_id: query.answers for query in queries if len(query.answers) >= ANNOTATORS}
    votes = {}
    for query in queries:
        if query.query_id not in annotations:
            raise DataError(
                f"answer.annotations holds no answers to the query {query.query_id!r}; give the annotations of its split"
            )
        votes[query.query_id] = annotations[query.query_id]
    return votes


def score_answers(
    answers: Mapping[str, Answer],
    queries: Iterable[Query],
    votes: Mapping[str, Sequence[str]] | None = None,
    *,
    seed: int = 0,
) -> Scores:
    """Score the answers of the queries that have some to compare with; a query without an answer counts as 0.

    The first metric is `VQA` where `votes` holds every such query, else `VQA_low`. Raises DataError when no query
    can be scored. About 50 microseconds a query.
    """
    votes = votes or {}
    scored = [query for query in queries if query.answers or query.query_id in votes]
    if not scored:
        raise DataError(
            "none of the queries has an answer to compare with; give queries with 'answers', or leave out the scoring "
            "with `gemkr answer`"
        )
    official = all(query.query_id in votes for query in scored)
    rows = []
    for query in scored:
        given, known = answers.get(query.query_id), query.answers or tuple(votes[query.query_id])
        if given is None:
            rows.append((0.0, 0.0, 0.0))
            continue
        vqa = (
            vqa_accuracy(given.text, votes[query.query_id])
            if official
            else listed_accuracy(given.text, known)
        )
        rows.append((vqa, exact_match(given.text, known), token_f1(given.text, known)))
    values = dict(zip((VQA if official else VQA_LOW, "EM", "F1"), np.array(rows).T, strict=True))
    missing = tuple(query.query_id for query in scored if query.query_id not in answers)
    return Scores(tuple(query.query_id for query in scored), values, seed, missing)


def describe_metric(scores: Scores) -> str:
    """How the first metric was computed, for tables and reports."""
    if VQA in scores.values:
        return "VQA is the official soft accuracy over the annotators' ten answers"
    return (
        "VQA_low is a lower bound of OK-VQA's soft accuracy, since each answer is listed once: 1 for the only answer of a "
        "question, .6 for one of several"
    )
