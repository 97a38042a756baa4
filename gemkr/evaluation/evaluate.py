"""A whole evaluation: every retriever's run, its scores, paired tests against the first, and figures of the clues."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from typing import Any

from gemkr.config.files import to_mapping
from gemkr.config.section import Section
from gemkr.errors import DataError
from gemkr.evaluation.answer_evaluation import (
    AnswerEvaluation,
    answer_all,
    evaluate_answers,
    require_answerable,
)
from gemkr.evaluation.clues import ClueFigures, clue_figures
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.groups import GroupedScores, grouped_scores
from gemkr.evaluation.harness import RunResult
from gemkr.evaluation.judge import DEFAULT_MATCH
from gemkr.evaluation.metrics import Scores, parse_metrics
from gemkr.evaluation.relevance import Relevance, make_relevance
from gemkr.evaluation.runs import require_inputs, run_retriever
from gemkr.evaluation.significance import PairedTest, paired_test
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.retrievers.rescored import RescoredRetriever
from gemkr.sources import Sources

logger = logging.getLogger(__name__)
CONTROL = "random_document"
"""The way of ranking that shows the clues' share: a random document of each clue's span."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found; `results`, `rows`, `tests` and `grouped` by the retrievers' names, the main one first (it has no test).
    `grouped` is empty where the configuration has no groups, or no query is of a data set."""

    config: EvalConfig
    sources: Sources
    relevance: Relevance
    results: dict[str, RunResult]
    rows: dict[str, Scores]
    tests: dict[str, dict[str, PairedTest]]
    grouped: dict[str, GroupedScores]
    clues: ClueFigures | None
    answers: AnswerEvaluation | None
    seconds: dict[str, float]

    @property
    def main(self) -> str:
        """The name of the retriever that the report shows."""
        return next(iter(self.results))

    def metrics_json(self) -> str:
        """Means, intervals, tests, figures of the clues and the configuration."""
        rows = {
            name: {**{m: scores.mean(m) for m in scores.values}, "queries": len(scores.query_ids)}
            for name, scores in self.rows.items()
        }
        tests = {name: {m: asdict(t) for m, t in by_metric.items()} for name, by_metric in self.tests.items()}
        values: dict[str, Any] = {
            "relevance": self.relevance.describe,
            "main": self.main,
            "rows": rows,
            "intervals": {name: scores.summary() for name, scores in self.rows.items()},
            "tests": tests,
            **({"grouped": {n: asdict(g) for n, g in self.grouped.items()}} if self.grouped else {}),
            "clues": None if self.clues is None else asdict(self.clues),
            **({} if self.answers is None else {"answers": self.answers.to_json()}),
            "seconds": self.seconds,
            "config": to_mapping(self.config),
        }
        return json.dumps(values, indent=1) + "\n"

    def per_query_jsonl(self) -> str:
        """One line per query: {"query_id": …, "rows": {retriever: {metric: value}}}."""
        columns = {name: scores.per_query() for name, scores in self.rows.items()}
        query_ids = dict.fromkeys(query_id for column in columns.values() for query_id in column)
        lines = (
            {"query_id": q, "rows": {name: column[q] for name, column in columns.items() if q in column}}
            for q in query_ids
        )
        return "".join(json.dumps(line) + "\n" for line in lines)


def evaluate(
    config: EvalConfig,
    *,
    restart: bool = False,
    report: Callable[[str, RunResult], None] = lambda name, result: None,
) -> Evaluation:
    """Run and score every retriever that the configuration evaluates; `report` is called as each run is done.

    With `clue_control`, the clues of the main retriever are ranked once more, with a random document of each; with `answer`,
    a reader answers the queries. Raises
    ConfigError for unknown metrics and missing settings before anything is loaded, DataError where none of the relevant documents is in
    the corpus, and what the parts raise.
    """
    metrics = parse_metrics(config.metrics)
    config.require("queries"), config.require("output")
    began = time.perf_counter()
    sources = config.sources()
    queries, documents = sources.queries, sources.documents
    relevance = make_relevance(
        metrics,
        qrels=config.qrels,
        queries=queries,
        contents=lambda doc_id: documents.by_id(doc_id).contents,
        match=config.match,
    )
    _require_known(relevance, documents)
    results: dict[str, RunResult] = {}
    rows: dict[str, Scores] = {}

    def run(name: str) -> None:
        results[name] = run_retriever(config, sources, name, restart=restart)
        report(name, results[name])
        rows[name] = relevance.score(results[name].run, seed=config.seed)

    main, *others = config.evaluated
    require_inputs(config, sources, others)
    if config.answer is not None:
        require_answerable(config, sources)
    for name in config.evaluated:
        run(name)
    if config.clue_control and _wants_control(config, results[main]):
        name = f"{main}.{CONTROL}"
        sources.sections = {**sources.sections, name: _control(name, main)}
        run(name)
    answers = None
    if config.answer is not None:
        read = answer_all(config, sources, found=results, restart=restart)
        answers = evaluate_answers(config, sources, read)
    seconds = {f"retrieve with {name}": result.seconds for name, result in results.items()}
    if answers is not None:
        seconds |= {f"answer from {name}": run.seconds for name, run in answers.runs.items()}
    seconds["this evaluation, with loading"] = time.perf_counter() - began
    tests = {name: _tests(scores, rows[main], config.seed) for name, scores in rows.items() if name != main}
    by_name = {name: grouped_scores(scores, config.groups) for name, scores in rows.items() if config.groups}
    grouped = {name: found for name, found in by_name.items() if found is not None}
    figures = clue_figures(results[main].rankings, queries, relevance.judge.match or DEFAULT_MATCH)
    return Evaluation(config, sources, relevance, results, rows, tests, grouped, figures, answers, seconds)


def _require_known(relevance: Relevance, documents: Container[str]) -> None:
    """DataError where the corpus holds no document that is given as relevant; a warning where it lacks some."""
    named = {
        doc_id: (query_id, judge.describe)
        for _, judge in relevance.groups
        for query_id, judged in (judge.fixed or {}).items()
        for doc_id, grade in judged.items()
        if grade > 0
    }
    absent = [doc_id for doc_id in named if doc_id not in documents]
    if not absent:
        return
    query_id, described = named[absent[0]]
    such = f"such as {absent[0]!r} of the query {query_id!r} ({described})"
    if len(absent) == len(named):
        raise DataError(
            f"the corpus holds none of the {len(named)} relevant documents, {such}; give the corpus, or the ids, that they were judged in"
        )
    logger.warning(
        "the corpus lacks %d of %d relevant documents, %s: they count as not found",
        len(absent), len(named), such,
    )  # fmt: skip


def _tests(theirs: Scores, ours: Scores, seed: int) -> dict[str, PairedTest]:
    return {
        metric: paired_test(theirs.values[metric], ours.values[metric], seed=seed) for metric in ours.values
    }


def _wants_control(config: EvalConfig, result: RunResult) -> bool:
    """Whether the main retriever has clues and no evaluated section is already their control."""
    main, *others = config.evaluated
    if not isinstance(config.retrievers[main].config, GenerativeConfig):
        return False
    if any(_is_control(config.retrievers[name], main) for name in others):
        return False
    return any(ranking.clues for ranking in result.rankings.values())


def _is_control(section: Section, main: str) -> bool:
    settings: Any = section.config
    return (
        isinstance(settings, RescoredRetriever.Config)
        and settings.of == main
        and settings.scoring.get("method") == CONTROL
    )


def _control(name: str, main: str) -> Section:
    settings = RescoredRetriever.Config(of=main, scoring={"method": CONTROL})
    return Section(f"retrievers.{name}", "rescored", RescoredRetriever, settings)
