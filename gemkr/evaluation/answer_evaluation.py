"""Answers of a reader scored: one row for each retriever whose passages it read, paired tests, and what abstaining is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.answering.confidence import FEWEST, Calibration, cross_fitted, fit, write_calibration
from gemkr.data.answers import read_annotations
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.answer_metrics import describe_metric, score_answers, votes_of
from gemkr.evaluation.answer_runs import (
    AnswerRun,
    answer_from,
    calibrations_of,
    reader_fingerprint,
    require_mode,
)
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.harness import RunResult
from gemkr.evaluation.metrics import Scores
from gemkr.evaluation.risk import RiskCoverage, calibration_error, risk_coverage
from gemkr.evaluation.significance import PairedTest, paired_test
from gemkr.sources import Sources

SHOWN_POINTS = 200


@dataclass(frozen=True)
class Abstention:
    """What the confidence of a reader's answers is worth; `calibrated` says whether it is a probability or the answer's own.

    `half` is the accuracy of the more confident half. `coverage` and `kept` are the share and the accuracy of the answers above the
    threshold, `error` the calibration error: None where it is not calibrated.
    """

    curve: RiskCoverage
    calibrated: bool
    half: float
    coverage: float | None = None
    kept: float | None = None
    error: float | None = None

    def __str__(self) -> str:
        curve = self.curve
        text = (
            f"area under the risk-coverage curve {curve.aurc:.3f} (random order {curve.random:.3f}, best order {curve.best:.3f}); "
            f"the more confident half scores {self.half:.3f}, all of them {1 - curve.random:.3f}"
        )
        if not self.calibrated:
            return f"{text}; not calibrated, ordered by the answers' own probability"
        kept = "none" if self.kept is None else f"{self.kept:.3f}"
        return f"{text}; above the threshold {100 * self.coverage:.0f} % score {kept}; calibration error {self.error:.3f}"


@dataclass(frozen=True)
class AnswerEvaluation:
    """Answers, scores, tests against the main one, and abstention, by the retriever whose passages were read."""

    runs: dict[str, AnswerRun]
    rows: dict[str, Scores]
    tests: dict[str, dict[str, PairedTest]]
    abstention: dict[str, Abstention]

    @property
    def main(self) -> str:
        return next(iter(self.rows))

    @property
    def describe(self) -> str:
        """How the answers were scored."""
        return describe_metric(self.rows[self.main])

    def to_json(self) -> dict[str, Any]:
        """Means, intervals, tests, and at most 200 points of each risk-coverage curve: plain values."""
        return {
            "scored by": self.describe,
            "main": self.main,
            "rows": {
                n: {m: s.mean(m) for m in s.values} | {"queries": len(s.query_ids)}
                for n, s in self.rows.items()
            },
            "intervals": {name: scores.summary() for name, scores in self.rows.items()},
            "tests": {n: {m: asdict(t) for m, t in tests.items()} for n, tests in self.tests.items()},
            "abstention": {name: _plain(each) for name, each in self.abstention.items()},
            "seconds": {name: run.seconds for name, run in self.runs.items()},
        }


def _plain(abstention: Abstention) -> dict[str, Any]:
    curve = abstention.curve
    shown = np.unique(
        np.linspace(0, len(curve.risk) - 1, min(len(curve.risk), SHOWN_POINTS)).round().astype(int)
    )
    values = {name: getattr(abstention, name) for name in ("calibrated", "half", "coverage", "kept", "error")}
    return {
        "aurc": curve.aurc,
        "best": curve.best,
        "random": curve.random,
        **values,
        "curve": [[float(curve.coverage[i]), float(curve.risk[i])] for i in shown],
    }


def answer_all(
    config: EvalConfig,
    sources: Sources,
    *,
    found: Mapping[str, RunResult] | None = None,
    restart: bool = False,
    report: Callable[[str, AnswerRun], None] = lambda name, run: None,
) -> dict[str, AnswerRun]:
    """The answers from the passages of each retriever that `answer.of` names; `report` is called as each is done.

    `found` are runs that are there already, by name; the others are made.
    Raises as `require_answerable`, before anything is read.
    """
    require_answerable(config, sources)
    calibrations, runs = calibrations_of(config.answer), {}
    for name in config.answered:
        result = (found or {}).get(name)
        runs[name] = answer_from(config, sources, name, calibrations, found=result, restart=restart)
        report(name, runs[name])
    return runs


def require_answerable(config: EvalConfig, sources: Sources) -> None:
    """ConfigError without a section `answer`, for a reader that cannot do without passages and for a calibration of another one or
    of other retrievers; DataError for annotations that lack a query."""
    if config.answer is None:
        raise ConfigError("answer is missing; add answer: {reader: {kind: llm, model: ...}, of: [...]}")
    for name in config.answered:
        require_mode(config.answer, name)
    fitted = calibrations_of(config.answer)
    if fitted and not fitted.keys() & set(config.answered):
        raise ConfigError(
            f"the calibration {config.answer.calibration} was fitted to answers from {', '.join(fitted)}, and answer.of names "
            f"{', '.join(config.answered)}; name one of these, or fit it again with gemkr answer CONFIG --calibrate"
        )
    _votes(config, sources)


def require_calibration_material(config: EvalConfig, sources: Sources) -> None:
    """DataError for queries that the reader learned from, and for too few with answers."""
    require_answerable(config, sources)
    _require_held_out(config, sources)
    votes = _votes(config, sources)
    scored = sum(bool(query.answers) or query.query_id in votes for query in sources.queries)
    if scored < FEWEST:
        raise DataError(
            f"{scored} queries with answers in {config.queries} cannot calibrate a reader; give at least {FEWEST}"
        )


def evaluate_answers(config: EvalConfig, sources: Sources, runs: dict[str, AnswerRun]) -> AnswerEvaluation:
    """Score what `answer_all` gave; DataError for queries without answers."""
    rows = {name: _scores(config, sources, run) for name, run in runs.items()}
    main = next(iter(rows))
    tests = {
        name: {m: paired_test(s.values[m], rows[main].values[m], seed=config.seed) for m in s.values}
        for name, s in rows.items()
        if name != main
    }
    calibrations = calibrations_of(config.answer)
    abstention = {name: _abstention(runs[name], rows[name], calibrations.get(name)) for name in rows}
    return AnswerEvaluation(runs, rows, tests, abstention)


def _votes(config: EvalConfig, sources: Sources) -> Mapping[str, Sequence[str]]:
    path = config.answer.annotations
    annotations = (
        None if path is None else sources.once(("annotations", path), lambda: read_annotations(path))
    )
    return votes_of(sources.queries, annotations)


def _scores(config: EvalConfig, sources: Sources, run: AnswerRun) -> Scores:
    return score_answers(run.answers, sources.queries, _votes(config, sources), seed=config.seed)


def _abstention(run: AnswerRun, scores: Scores, calibration: Calibration | None) -> Abstention:
    pairs = list(zip(scores.query_ids, _soft(scores), strict=True))
    given = [(run.answers[query_id], value) for query_id, value in pairs if query_id in run.answers]
    accuracy = np.array([value for _, value in given])
    if calibration is None:
        curve = risk_coverage(np.array([answer.log_prob for answer, _ in given]), accuracy)
        return Abstention(curve, False, 1 - curve.at(0.5))
    return _calibrated(np.array([answer.confidence for answer, _ in given]), accuracy, calibration.threshold)


def _calibrated(confidence: np.ndarray, accuracy: np.ndarray, threshold: float) -> Abstention:
    curve, kept = risk_coverage(confidence, accuracy), confidence >= threshold
    return Abstention(
        curve,
        True,
        1 - curve.at(0.5),
        float(kept.mean()),
        float(accuracy[kept].mean()) if kept.any() else None,
        calibration_error(confidence, accuracy),
    )


def _soft(scores: Scores) -> np.ndarray:
    """The first metric: the VQA accuracy."""
    return next(iter(scores.values.values()))


def calibrate(
    config: EvalConfig, sources: Sources, runs: Mapping[str, AnswerRun], path: str | Path, coverage: float
) -> dict[str, Abstention]:
    """Fit a confidence to the answers to questions that the reader did not learn from, and write it.

    The figures returned are cross-fitted: each answer's confidence is of a fit to others. Raises DataError as
    `require_calibration_material`, and where all answers are right or all wrong.
    """
    require_calibration_material(config, sources)
    fitted, figures = {}, {}
    for name, run in runs.items():
        scores = _scores(config, sources, run)
        features = [run.answers[query_id].features for query_id in scores.query_ids]
        accuracy = _soft(scores)
        fitted[name] = fit(features, accuracy, coverage)
        figures[name] = _calibrated(cross_fitted(features, accuracy), accuracy, fitted[name].threshold)
    write_calibration(path, reader_fingerprint(config.answer), config.answer.depth, fitted)
    return figures


def _require_held_out(config: EvalConfig, sources: Sources) -> None:
    """DataError where the reader learned from one of the queries, as far as that is recorded and still there."""
    learned_queries = getattr(config.answer.reader.cls, "learned_queries", None)
    path = None if learned_queries is None else learned_queries(config.answer.reader.config)
    if path is None or not Path(path).is_file():
        return
    learned = {query.query_id for query in read_queries(path)}
    seen = [query.query_id for query in sources.queries if query.query_id in learned]
    if seen:
        raise DataError(
            f"the reader learned from {len(seen)} of the {len(sources.queries)} queries of {config.queries}, such as {seen[0]!r}, "
            "and is overconfident on them; calibrate it on held-out ones (gemkr split)"
        )
