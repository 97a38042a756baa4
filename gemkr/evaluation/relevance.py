"""The relevance of every metric of a table: `recall` counts given documents, `pseudo_recall` answers, the others what the settings select.

So one table holds both; what each column counts is written below it. Knows nothing of retrievers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemkr.data.qrels import AnswerMatcher, gold_qrels
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.judge import Judge, make_judge
from gemkr.evaluation.metrics import PSEUDO_RECALL, RECALL, Metric, Scores
from gemkr.types import Query, Run

PSEUDO_MATCH = "lower"
"""How `pseudo_recall` looks for answers, as FLMR's evaluation does: a substring, in lower case."""


@dataclass(frozen=True)
class Relevance:
    """Metrics with their judges, in groups of equal relevance; `metrics` in the order of the table."""

    metrics: tuple[Metric, ...]
    groups: tuple[tuple[tuple[Metric, ...], Judge], ...]

    @property
    def judge(self) -> Judge:
        """The judge of the first metric, by which single documents are shown as relevant."""
        return next(judge for metrics, judge in self.groups if self.metrics[0] in metrics)

    @property
    def first(self) -> Relevance:
        """The first metric alone."""
        return Relevance(self.metrics[:1], ((self.metrics[:1], self.judge),))

    @property
    def describe(self) -> str:
        """What the metrics count, for tables and reports."""
        ((first, judge), *others) = self.groups
        if not others and first[0].kind not in (RECALL, PSEUDO_RECALL):
            return judge.describe
        return "; ".join(
            f"{', '.join(map(str, metrics))}: {_counted(metrics[0], judge)}" for metrics, judge in self.groups
        )

    def score(self, run: Run, *, seed: int = 0) -> Scores:
        """Every metric under its own relevance, all over the same queries."""
        parts = [judge.score(run, metrics, seed=seed) for metrics, judge in self.groups]
        values = {name: value for part in parts for name, value in part.values.items()}
        ordered = {str(metric): values[str(metric)] for metric in self.metrics}
        return Scores(parts[0].query_ids, ordered, seed, parts[0].missing)


def make_relevance(
    metrics: Sequence[Metric],
    *,
    qrels: str | Path | None = None,
    queries: Sequence[Query] = (),
    contents: Callable[[str], str] | None = None,
    match: str | None = None,
) -> Relevance:
    """The relevance of each metric: `recall` by qrels, else the queries' gold documents; `pseudo_recall` by answers, match `lower`; the
    others as `make_judge` selects.

    Raises what `make_judge` raises; ConfigError for a match that no metric would use; DataError where queries have no gold documents or
    no answers, or where the metrics would be means over different queries.
    """
    recall = tuple(metric for metric in metrics if metric.kind == RECALL)
    pseudo = tuple(metric for metric in metrics if metric.kind == PSEUDO_RECALL)
    others = tuple(metric for metric in metrics if metric not in recall + pseudo)
    groups = []
    if others:
        groups.append(
            (others, make_judge(others, qrels=qrels, queries=queries, contents=contents, match=match))
        )
    elif match not in (None, PSEUDO_MATCH if pseudo else None):
        raise ConfigError(
            f"match {match} is used by none of {', '.join(map(str, metrics))} ({PSEUDO_RECALL} has match {PSEUDO_MATCH}); "
            "leave it out, or add a metric such as S@5"
        )
    if recall:
        if qrels is None and not gold_qrels(queries):
            raise DataError(
                f"{', '.join(map(str, recall))} counts given documents and none of the {len(queries)} queries has positives; "
                f"give qrels or queries with positives, or use {PSEUDO_RECALL}, which looks for answers"
            )
        groups.append((recall, make_judge(recall, qrels=qrels, queries=queries)))
    if pseudo:
        if not any(AnswerMatcher(query.answers, PSEUDO_MATCH) for query in queries):
            raise DataError(
                f"{', '.join(map(str, pseudo))} looks for answers and none of the {len(queries)} queries has any; "
                f"give queries with answers, or use {RECALL}, which counts given documents"
            )
        groups.append((pseudo, make_judge(pseudo, queries=queries, contents=contents, match=PSEUDO_MATCH)))
    _require_same_queries(groups)
    return Relevance(tuple(metrics), tuple(groups))


def _counted(metric: Metric, judge: Judge) -> str:
    if metric.kind == RECALL:
        return f"whether a given document ({judge.describe}) is among the first k"
    if metric.kind == PSEUDO_RECALL:
        return f"whether a document among the first k holds an answer ({PSEUDO_MATCH} match)"
    return judge.describe


def _require_same_queries(groups: Sequence[tuple[tuple[Metric, ...], Judge]]) -> None:
    ((first, judge), *others) = groups
    known = judge.query_ids
    for metrics, judge in others:
        if judge.query_ids != known:
            apart = set(known) ^ set(judge.query_ids)
            example = next(query_id for query_id in (*known, *judge.query_ids) if query_id in apart)
            raise DataError(
                f"{', '.join(map(str, first))} can be judged for {len(known)} queries and {', '.join(map(str, metrics))} for "
                f"{len(judge.query_ids)}, {example!r} by one of them only; give the queries that have both, or score them apart"
            )
