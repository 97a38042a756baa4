"""A run file reranked by a section of a configuration, and the weight that retrieval should keep, chosen on development data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gemkr.config.section import Section
from gemkr.data.runs import load_run
from gemkr.data.values import load_json
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.harness import SETTINGS_FILE, RunResult
from gemkr.evaluation.metrics import parse_metrics
from gemkr.evaluation.relevance import make_relevance
from gemkr.evaluation.runs import run_retriever
from gemkr.rerankers.pointwise import mixed
from gemkr.retrievers.reranked import RerankedRetriever
from gemkr.retrievers.saved import SavedRetriever
from gemkr.types import Hit

WEIGHTS = tuple(step / 20 for step in range(21))
"""The shares of retrieval that are tried."""


def rerank_run(
    config: EvalConfig, run: str, output: str, name: str | None = None, *, restart: bool = False
) -> tuple[Path, RunResult]:
    """Rerank a run as the section `name` does (None: the first of kind `reranked`), whatever that section is `of`.

    All of its `depth` hits are kept. The result, in the folder `name` of `output`, is continued where an earlier call
    stopped. ConfigError for a section that reranks nothing; else raises as `run_retriever` does.
    """
    chosen = _reranked(config, name)
    settings = config.retrievers[chosen].config
    given = f"{chosen}.given"
    sections = {
        **config.retrievers,
        chosen: replace(config.retrievers[chosen], config=replace(settings, of=given)),
        given: Section(f"retrievers.{given}", "saved", SavedRetriever, SavedRetriever.Config(run=run)),
    }
    changed = replace(config, retrievers=sections, output=output, k=settings.depth, answer=None)
    sources = changed.sources()
    result = run_retriever(changed, sources, chosen, restart=restart)
    return sources.run_folder(chosen) / "run.jsonl", result


def _reranked(config: EvalConfig, name: str | None) -> str:
    """The name of the section that reranks."""
    rerank = [
        key
        for key, section in config.retrievers.items()
        if isinstance(section.config, RerankedRetriever.Config)
    ]
    if name is None and not rerank:
        raise ConfigError(
            "no section of retrievers reranks; add one, such as again: {kind: reranked, of: bm25, reranker: {kind: yes_no, model: ...}}"
        )
    if name is not None and name not in rerank:
        raise ConfigError(
            f"the retriever {name!r} is no section of kind reranked; there are {', '.join(rerank) or 'none'}"
        )
    return name or rerank[0]


def _scales(config: EvalConfig, name: str | None) -> bool:
    """Whether the reranker of a section scales the scores that it mixes."""
    sections = config.retrievers.values()
    if name is None and not any(isinstance(one.config, RerankedRetriever.Config) for one in sections):
        return True
    reranker = config.retrievers[_reranked(config, name)].config.reranker
    return getattr(reranker.config, "scaled", True)


@dataclass(frozen=True)
class Curve:
    """The mean of a metric for each weight of retrieval; `relevance` says what it was judged by, `scaled` whether the scores were."""

    metric: str
    relevance: str
    scaled: bool
    values: Mapping[float, float]

    @property
    def best(self) -> float:
        """The weight with the highest mean, the smallest of equals."""
        return max(self.values, key=lambda weight: (self.values[weight], -weight))


def weight_curve(config: EvalConfig, run: str, reranked: str, name: str | None = None) -> Curve:
    """The first metric of the configuration for each of WEIGHTS, on its queries; scores are scaled unless the reranker of the section
    `name` (None: the first of kind `reranked`, where there is one) has `scaled: false`.

    `run` is the run that was reranked, `reranked` the result without `retrieval_weight`; each query's hits are those of
    `reranked`. DataError for one that `run` lacks, and for a result of `gemkr rerank` that retrieval has a share of already. Loads no
    model.
    """
    config.require("queries")
    _require_unmixed(Path(reranked))
    scale = _scales(config, name)
    metrics = parse_metrics(config.metrics)
    sources = config.sources()
    queries = sources.queries
    relevance = make_relevance(
        metrics,
        qrels=config.qrels,
        queries=queries,
        contents=lambda doc_id: sources.documents.by_id(doc_id).contents,
        match=config.match,
    ).first
    first, second = load_run(run, queries, "file"), load_run(reranked, queries, "file")
    both = {
        query.query_id: _paired(
            query.query_id, first.get(query.query_id, ()), second[query.query_id], (run, reranked)
        )
        for query in queries
        if query.query_id in second
    }
    if not both:
        raise DataError(f"the run {reranked} holds none of the {len(queries)} queries; name a run over these")
    values = {
        weight: relevance.score(
            {query_id: _mix(*pair, weight, scale) for query_id, pair in both.items()}
        ).mean(str(metrics[0]))
        for weight in WEIGHTS
    }
    return Curve(str(metrics[0]), relevance.describe, scale, values)


def _require_unmixed(reranked: Path) -> None:
    """Says so of a run beside settings that mix retrieval in: it would count twice."""
    settings = reranked.with_name(SETTINGS_FILE)
    if not settings.is_file():
        return
    made = load_json(settings)
    for key in ("retriever", "reranker", "retrieval_weight"):
        made = made.get(key) if isinstance(made, dict) else None
    if isinstance(made, (int, float)) and made > 0:
        raise DataError(
            f"the run {reranked} was reranked with retrieval_weight {made}, so that retrieval would count twice; rerank again with "
            "reranker.retrieval_weight=0 into another folder"
        )


def _paired(
    query_id: str, first: Sequence[Hit], second: Sequence[Hit], files: tuple[str, str]
) -> tuple[list[Hit], np.ndarray]:
    """The reranked hits in the order and with the scores of retrieval, and what reranking scored them, float32[n]."""
    scores = {hit.doc_id: hit.score for hit in second}
    hits = [hit for hit in first if hit.doc_id in scores]
    if len(hits) < len(scores):
        absent = next(iter(scores.keys() - {hit.doc_id for hit in hits}))
        raise DataError(
            f"{files[1]} ranks the document {absent!r} for the query {query_id!r}, and {files[0]} does not; name the run that was "
            "reranked"
        )
    return hits, np.array([scores[hit.doc_id] for hit in hits], np.float32)


def _mix(hits: Sequence[Hit], scores: np.ndarray, weight: float, scale: bool) -> list[Hit]:
    mix = mixed(np.array([hit.score for hit in hits], np.float32), scores, weight, scale=scale)
    return [replace(hits[i], score=float(mix[i])) for i in np.argsort(-mix, kind="stable").tolist()]
