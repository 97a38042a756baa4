"""`gemkr eval CONFIG`: retrieve, score, compare with baselines, and write the report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemkr.cli.retrieve import add_config_arguments, retrieve, say_speed

if TYPE_CHECKING:
    from gemkr.evaluation.clues import ClueFigures
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.harness import RunResult
    from gemkr.evaluation.judge import Judge
    from gemkr.evaluation.metrics import Scores
    from gemkr.evaluation.report.cards import Box
    from gemkr.evaluation.significance import PairedTest
    from gemkr.retrievers.sources import Sources
    from gemkr.vision.store import RegionStore

PER_QUERY, REPORT, METRICS = RESULTS = ("per_query.jsonl", "report.html", "metrics.json")
HELP = "retrieve, score against baselines, and write metrics and an HTML report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import time

    from gemkr.config.files import load_config
    from gemkr.evaluation.clues import clue_figures
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.judge import DEFAULT_MATCH, make_judge
    from gemkr.evaluation.metrics import parse_metrics
    from gemkr.evaluation.report.table import text_comparison, text_table
    from gemkr.evaluation.significance import paired_test
    from gemkr.files import require_writable_folder, write_atomically
    from gemkr.retrievers import require_known

    config = load_config(args.config, EvalConfig, args.overrides)
    names = list(dict.fromkeys((config.retriever, *config.baselines)))
    for name in names:
        require_known(name)
    metrics = parse_metrics(config.metrics)
    output = require_writable_folder(config.output)
    if args.restart:
        for stale in RESULTS:
            (output / stale).unlink(missing_ok=True)
    from gemkr.retrievers.sources import Sources

    began = time.perf_counter()
    sources = Sources(config)
    queries, documents = sources.queries, sources.documents
    judge = make_judge(
        metrics,
        qrels=config.qrels,
        queries=queries,
        contents=lambda doc_id: documents.by_id(doc_id).contents,
        match=config.match,
    )
    results: dict[str, RunResult] = {}
    rows: dict[str, Scores] = {}
    for name in names:
        folder = output if name == config.retriever else output / "baselines" / name
        results[name] = retrieve(config, sources, name, folder, restart=args.restart)
        say_speed(name, results[name])
        rows[name] = judge.score(results[name].run, metrics, seed=config.seed)
    seconds = {f"retrieve with {name}": result.seconds for name, result in results.items()}
    seconds["this evaluation, with loading"] = time.perf_counter() - began
    ours = rows[config.retriever]
    tests = {
        name: {
            metric: paired_test(rows[name].values[metric], ours.values[metric], seed=config.seed)
            for metric in ours.values
        }
        for name in names[1:]
    }
    print(text_table(rows))
    for name, test in tests.items():
        print()
        print(text_comparison(test, config.retriever, name))
    figures = clue_figures(results[config.retriever].rankings, queries, judge.match or DEFAULT_MATCH)
    if figures is not None:
        print(f"\n{config.retriever}: {figures}")
    print(f"\n{judge.describe}; {len(ours.query_ids):,} queries, {len(documents):,} documents")

    write_atomically(output / PER_QUERY, _per_query(rows))
    report = write_eval_report(
        output / REPORT, config, sources, judge, results, rows, tests, figures, seconds
    )
    # the last, because its being there tells that the evaluation is finished
    write_atomically(output / METRICS, _metrics_json(config, judge, rows, tests, figures, seconds))
    print(f"report: {report}", file=sys.stderr)
    return 0


def write_eval_report(
    path: Path,
    config: EvalConfig,
    sources: Sources,
    judge: Judge,
    results: dict[str, RunResult],
    rows: dict[str, Scores],
    tests: dict[str, dict[str, PairedTest]],
    figures: ClueFigures | None,
    seconds: dict[str, float],
) -> Path:
    """The HTML report of an evaluation; the configuration's retriever is shown query by query."""
    from gemkr.data.qrels import MATCHES
    from gemkr.evaluation.report.cards import choose_queries, make_card
    from gemkr.evaluation.report.page import Row, write_report

    result = results[config.retriever]
    qrels = judge.qrels(result.run)
    by_id = {query.query_id: query for query in sources.queries}
    right = {
        query_id: bool(ranking.hits) and qrels[query_id].get(ranking.hits[0].doc_id, 0) > 0
        for query_id, ranking in result.rankings.items()
        if query_id in qrels
    }
    tokenizer = _tokenizer(config) if any(ranking.clues for ranking in result.rankings.values()) else None
    match = judge.match if judge.match in MATCHES else "word"
    cards = []
    for query_id in choose_queries(right, config.cards, seed=config.seed):
        query, ranking = by_id[query_id], result.rankings[query_id]
        shown = {hit.doc_id: sources.documents.by_id(hit.doc_id) for hit in ranking.hits}
        picture, boxes = _picture(query.image, sources)
        cards.append(
            make_card(
                query,
                ranking,
                shown,
                qrels[query_id],
                tokenizer=tokenizer,
                match=match,
                picture=picture,
                boxes=boxes,
            )
        )
    notes = [f"Means over {len(right):,} queries with bootstrap 95 % intervals; {judge.describe}."]
    if figures is not None:
        notes.append(f"The model wrote {figures}.")
    for name, by_metric in tests.items():
        parts = [f"{m} {t.difference:+.3f} (p = {t.p_value:.4f})" for m, t in by_metric.items()]
        notes.append(f"{config.retriever} against {name}, paired randomization test: {', '.join(parts)}.")
    if len(cards) < len(right):
        notes.append(
            f"Shown below: {len(cards)} queries, right and wrong ones in equal parts where there are enough."
        )
    subtitle = (
        f"{len(right):,} queries of {Path(config.queries).name} over {len(sources.documents):,} documents "
        f"of {Path(config.corpus).name}"
    )
    table = [Row.of(name, scores) for name, scores in rows.items()]
    write_report(path, f"Retrieval with {config.retriever}", table, cards, seconds, notes, subtitle=subtitle)
    return path


def _tokenizer(config: EvalConfig):
    """The model's tokenizer, which turns evidence into places in the text."""
    from gemkr.text.tokenizer import load_tokenizer

    return None if config.model is None else load_tokenizer(config.model.tokenizer or config.model.llm)


def shown_boxes(regions: RegionStore, image: str) -> list[Box]:
    """The boxes of a picture as the report draws them; none for a picture that the store does not hold."""
    from gemkr.evaluation.report.cards import Box

    if image not in regions:
        return []
    found = regions.get(image)
    width, height = found.size
    return [
        Box(x0 / width, y0 / height, x1 / width, y1 / height, label, score)
        for (x0, y0, x1, y1), label, score in zip(found.boxes.tolist(), found.classes, found.scores)
    ]


def _picture(image: str | None, sources: Sources) -> tuple[Path | None, list[Box]]:
    """The file and boxes of a query's picture, as far as the configuration knows them."""
    from gemkr.errors import VisionError

    if image is None or sources.pictures is None:
        return None, []
    try:
        path = sources.pictures.path(image)
    except VisionError:
        return None, []
    return path, [] if sources.regions is None else shown_boxes(sources.regions, image)


def _metrics_json(
    config: EvalConfig,
    judge: Judge,
    rows: dict[str, Scores],
    tests: dict[str, dict[str, PairedTest]],
    figures: ClueFigures | None,
    seconds: dict[str, float],
) -> str:
    from dataclasses import asdict

    from gemkr.config.files import to_mapping

    values: dict[str, Any] = {
        "relevance": judge.describe,
        "rows": {
            name: {**{m: scores.mean(m) for m in scores.values}, "queries": len(scores.query_ids)}
            for name, scores in rows.items()
        },
        "intervals": {name: scores.summary() for name, scores in rows.items()},
        "tests": {
            name: {m: asdict(test) for m, test in by_metric.items()} for name, by_metric in tests.items()
        },
        "clues": None if figures is None else asdict(figures),
        "seconds": seconds,
        "config": to_mapping(config),
    }
    return json.dumps(values, indent=1) + "\n"


def _per_query(rows: dict[str, Scores]) -> str:
    """One line per query: {"query_id": …, "rows": {retriever: {metric: value}}}."""
    columns = {name: scores.per_query() for name, scores in rows.items()}
    query_ids = dict.fromkeys(query_id for column in columns.values() for query_id in column)
    return "".join(
        json.dumps(
            {"query_id": q, "rows": {name: column[q] for name, column in columns.items() if q in column}}
        )
        + "\n"
        for q in query_ids
    )
