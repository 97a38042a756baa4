"""Metrics of ranked lists: one name, one meaning, a value per query. Needs numpy alone.

`P@k` relevant share of the first k · `R@k` true recall: share of all relevant documents · `S@k` success: any relevant
one among the first k (what the papers print as "R@k" or PRR@k) · `MRR@k` reciprocal rank of the first relevant one,
0 beyond k · `nDCG@k` with linear gains · `MAP` or `MAP@k` average precision over all relevant documents, 0 for those beyond
k · `D@k` distinct documents among the first k · `recall@k`, `pseudo_recall@k` PreFLMR's: S@k by given documents, by answers, in one
table (`relevance`).

Knows nothing of texts or of where relevance comes from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.significance import bootstrap_interval
from gemkr.types import Qrels, Run

NEEDS_ALL_RELEVANT = frozenset({"R", "nDCG", "MAP"})
"""Metrics that are defined only where all relevant documents are known (qrels, not answer relevance)."""

RECALL, PSEUDO_RECALL = "recall", "pseudo_recall"
"""Metrics that name their relevance: given documents, answers in the texts."""

WHOLE = 999_999_999
"""The cut-off of a metric over the whole list, such as MAP."""
NARROW = 1000
"""Cut-offs up to here are reckoned over k ranks, however short the lists, so that sums do not depend on other queries."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its cut-off, such as P@5."""

    kind: str
    k: int

    def __str__(self) -> str:
        return self.kind if self.k == WHOLE else f"{self.kind}@{self.k}"


def parse_metric(name: str) -> Metric:
    """`"S@5"` -> Metric("S", 5), `"MAP"` -> Metric("MAP", WHOLE); ConfigError for an unknown kind or a cut-off out of range."""
    match = re.fullmatch(r"([A-Za-z_]+)@(\d{1,9})", name.strip())
    kinds = {kind.lower(): kind for kind in _FORMULAS}
    if name.strip().lower() == "map":
        return Metric("MAP", WHOLE)
    if match is None or match[1].lower() not in kinds or int(match[2]) < 1:
        known = ", ".join(f"{kind}@k" for kind in _FORMULAS)
        raise ConfigError(
            f"the metric {name!r} is unknown; known are {known} with k from 1 to {WHOLE}, and MAP"
        )
    return Metric(kinds[match[1].lower()], int(match[2]))


def parse_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Several metrics, doubles dropped; ConfigError when there is none."""
    metrics = tuple(dict.fromkeys(parse_metric(name) for name in names))
    if not metrics:
        raise ConfigError("no metric is given; name at least one, such as P@5 or S@5")
    return metrics


@dataclass(frozen=True)
class Scores:
    """Values of several metrics: `values["P@5"]` is float64[Q], in the order of `query_ids`."""

    query_ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    seed: int = 0
    missing: tuple[str, ...] = field(default=())
    """Queries of the qrels without a hit in the run; they count as 0."""

    def mean(self, name: str) -> float:
        """The mean over all queries."""
        return float(self.values[name].mean())

    def interval(self, name: str) -> tuple[float, float]:
        """The bootstrap 95 % interval of the mean, over queries (seeded)."""
        return bootstrap_interval(self.values[name], seed=self.seed)

    def summary(self) -> dict[str, dict[str, float]]:
        """{"P@5": {"mean": …, "low": …, "high": …}, …}: plain numbers, fit for json."""
        summary = {}
        for name in self.values:
            low, high = self.interval(name)
            summary[name] = {"mean": self.mean(name), "low": low, "high": high}
        return summary

    def per_query(self) -> dict[str, dict[str, float]]:
        """{query_id: {"P@5": …, …}}."""
        columns = {name: values.tolist() for name, values in self.values.items()}
        return {
            query_id: {name: column[row] for name, column in columns.items()}
            for row, query_id in enumerate(self.query_ids)
        }


def evaluate(run: Run, qrels: Qrels, metrics: Sequence[Metric], *, seed: int = 0) -> Scores:
    """Score a run on every query of the qrels; a query that the run lacks counts as 0 for every metric.

    Queries of the run that the qrels lack are left out. A document that a list repeats counts each time for
    P@k, once for R@k, nDCG@k, MAP and D@k. Raises DataError when run and qrels share no
    query. Cost: O(queries × (largest k + judgements)).
    """
    if not any(query_id in run for query_id in qrels):
        raise DataError(
            f"the run ({len(run)} queries) and the qrels ({len(qrels)} queries) have no query in common; "
            "give the qrels of the run's queries"
        )
    longest = max(max(len(run.get(query_id, ())), len(judged)) for query_id, judged in qrels.items())
    table = _tabulate(run, qrels, min(max(longest, NARROW), max(metric.k for metric in metrics)))
    return Scores(
        query_ids=tuple(qrels),
        values={str(metric): _FORMULAS[metric.kind](table, metric.k) for metric in metrics},
        seed=seed,
        missing=tuple(query_id for query_id in qrels if not run.get(query_id)),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """All ranked lists side by side; K = the largest cut-off, as far as any list goes."""

    grades: np.ndarray  # float64[Q, K], relevance of the document at each rank; 0 where there is none
    first: np.ndarray  # bool[Q, K], a document stands there that did not stand higher up
    ideal: np.ndarray  # float64[Q, K], the query's relevance grades in descending order
    relevant: np.ndarray  # int64[Q], how many relevant documents there are


def _tabulate(run: Run, qrels: Qrels, depth: int) -> _Table:
    grades = np.zeros((len(qrels), depth))
    first = np.zeros((len(qrels), depth), dtype=bool)
    ideal = np.zeros((len(qrels), depth))
    relevant = np.zeros(len(qrels), dtype=np.int64)
    for row, (query_id, judged) in enumerate(qrels.items()):
        seen: set[str] = set()
        for rank, hit in enumerate(run.get(query_id, ())[:depth]):
            grades[row, rank] = max(judged.get(hit.doc_id, 0), 0)
            first[row, rank] = hit.doc_id not in seen
            seen.add(hit.doc_id)
        positive = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
        relevant[row] = len(positive)
        ideal[row, : len(positive)] = positive[:depth]
    return _Table(grades, first, ideal, relevant)


def _precision(table: _Table, k: int) -> np.ndarray:
    return (table.grades[:, :k] > 0).sum(axis=1) / k


def _recall(table: _Table, k: int) -> np.ndarray:
    found = ((table.grades[:, :k] > 0) & table.first[:, :k]).sum(axis=1)
    return found / np.maximum(table.relevant, 1)


def _success(table: _Table, k: int) -> np.ndarray:
    return (table.grades[:, :k] > 0).any(axis=1).astype(np.float64)


def _reciprocal_rank(table: _Table, k: int) -> np.ndarray:
    found = table.grades[:, :k] > 0
    return (found / np.arange(1, found.shape[1] + 1)).max(axis=1)


def _ndcg(table: _Table, k: int) -> np.ndarray:
    gains = table.grades[:, :k] * table.first[:, :k]
    weights = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
    gain = gains @ weights
    best = table.ideal[:, :k] @ weights
    return np.divide(gain, best, out=np.zeros_like(gain), where=best > 0)


def _average_precision(table: _Table, k: int) -> np.ndarray:
    found = (table.grades[:, :k] > 0) & table.first[:, :k]
    precision = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    return (precision * found).sum(axis=1) / np.maximum(table.relevant, 1)


def _distinct(table: _Table, k: int) -> np.ndarray:
    return table.first[:, :k].sum(axis=1).astype(np.float64)


_FORMULAS: dict[str, Callable[[_Table, int], np.ndarray]] = {
    "P": _precision,
    "R": _recall,
    "S": _success,
    "MRR": _reciprocal_rank,
    "nDCG": _ndcg,
    "MAP": _average_precision,
    "D": _distinct,
    RECALL: _success,
    PSEUDO_RECALL: _success,
}
