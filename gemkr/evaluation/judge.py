"""Which relevance counts in an evaluation: a qrels file, gold documents, or answers in the text.

Decided once, then applied to each run. Knows nothing of retrievers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemkr.data.qrels import MATCHES, AnswerMatcher, gold_qrels, judge_answers, read_qrels
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.metrics import NEEDS_ALL_RELEVANT, Metric, Scores, evaluate
from gemkr.types import Qrels, Query, Run

DEFAULT_MATCH = "word"


@dataclass(frozen=True)
class Judge:
    """Decides which documents of a run are relevant; `describe` names the rule, for tables and reports."""

    describe: str
    fixed: Qrels | None
    queries: Sequence[Query] = ()
    contents: Callable[[str], str] | None = None
    match: str | None = None

    def qrels(self, run: Run) -> Qrels:
        """The judgements for a run."""
        if self.fixed is not None:
            return self.fixed
        if self.contents is None or self.match is None:
            raise ValueError("a judge without qrels needs contents and a match")
        return judge_answers(run, self.queries, self.contents, self.match)

    @property
    def query_ids(self) -> tuple[str, ...]:
        """The queries for which relevance is known, in the order of `Scores`."""
        return (
            tuple(self.fixed)
            if self.fixed is not None
            else tuple(q.query_id for q in self.queries if self.knows(q))
        )

    def knows(self, query: Query) -> bool:
        """Whether the relevance of documents to a query is known."""
        if self.fixed is not None:
            return query.query_id in self.fixed
        return self.match is not None and bool(AnswerMatcher(query.answers, self.match))

    def relevant(self, query: Query, doc_ids: Iterable[str]) -> set[str]:
        """Which of some documents are relevant to one query; none where nothing is known of it."""
        if self.fixed is not None:
            judged = self.fixed.get(query.query_id, {})
            return {doc_id for doc_id in doc_ids if judged.get(doc_id, 0) > 0}
        if self.contents is None or self.match is None:
            raise ValueError("a judge without qrels needs contents and a match")
        matcher = AnswerMatcher(query.answers, self.match)
        return {doc_id for doc_id in doc_ids if matcher.matches(self.contents(doc_id))}

    def score(self, run: Run, metrics: Sequence[Metric], *, seed: int = 0) -> Scores:
        """`evaluate` under this relevance."""
        return evaluate(run, self.qrels(run), metrics, seed=seed)


def make_judge(
    metrics: Sequence[Metric],
    *,
    qrels: str | Path | None = None,
    queries: Sequence[Query] = (),
    contents: Callable[[str], str] | None = None,
    match: str | None = None,
) -> Judge:
    """The relevance that the settings select: qrels, else answers under `match`, else the queries' gold documents,
    else answers at word boundaries.

    With `qrels`, only the given queries are judged (all of the file when there are none). Raises ConfigError for both
    qrels and match, for metrics that answer relevance cannot give, and DataError when nothing is there to judge by.
    """
    if qrels is not None and match is not None:
        raise ConfigError(
            f"relevance comes from qrels ({qrels}) or from answers (match {match}), not both; drop one, or name "
            "recall@k and pseudo_recall@k, which take one each, and no other metrics"
        )
    if match is not None and match not in MATCHES:
        raise ConfigError(f"the match {match!r} is unknown; use {', '.join(MATCHES)}")
    if qrels is not None:
        judged: Qrels = read_qrels(qrels)
        if queries:
            judged = {query.query_id: judged[query.query_id] for query in queries if query.query_id in judged}
        if not judged:
            raise DataError(
                f"the qrels {qrels} judge none of the {len(queries)} queries; give the qrels of these queries"
            )
        return Judge(f"qrels {Path(qrels).name}", judged)
    if match is None and (gold := gold_qrels(queries)):
        return Judge("gold documents of the queries", gold)
    match = match or DEFAULT_MATCH
    refused = [str(metric) for metric in metrics if metric.kind in NEEDS_ALL_RELEVANT]
    if refused:
        raise ConfigError(
            f"{', '.join(refused)} need all relevant documents, answer relevance knows those of the run only; "
            "give qrels or leave these metrics out"
        )
    if contents is None or not any(AnswerMatcher(query.answers, match) for query in queries):
        raise DataError("there is nothing to judge by; give qrels, or queries with answers and their corpus")
    return Judge(
        f"a document is relevant when it holds an answer ({match} match)", None, queries, contents, match
    )
