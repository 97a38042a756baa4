"""`gemkr eval CONFIG`: retrieve, score, compare the retrievers, and write the report."""

from __future__ import annotations

import argparse
import sys

from gemkr.cli.retrieve import add_config_arguments, print_speed

PER_QUERY, REPORT, METRICS = RESULTS = ("per_query.jsonl", "report.html", "metrics.json")
HELP = "retrieve, score, compare retrievers, and write metrics and an HTML report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.answer import as_text
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.evaluate import evaluate
    from gemkr.evaluation.metrics import parse_metrics
    from gemkr.evaluation.report.eval_report import write_eval_report
    from gemkr.evaluation.report.table import text_comparison, text_groups, text_table
    from gemkr.evaluation.runs import require_output
    from gemkr.files import write_atomically

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    parse_metrics(config.metrics)
    config.require("queries")
    output = require_output(config)
    if args.restart:
        for stale in RESULTS:
            (output / stale).unlink(missing_ok=True)
    found = evaluate(config, restart=args.restart, report=print_speed)
    print(text_table(found.rows))
    for name, test in found.tests.items():
        print()
        print(text_comparison(test, found.main, name))
    for name, grouped in found.grouped.items():
        print()
        print(text_groups(name, grouped))
    if found.clues is not None:
        print(f"\n{found.main}: {found.clues}")
    if found.answers is not None:
        print("\n" + "\n".join(as_text(found.answers)))
    queries, documents = len(found.rows[found.main].query_ids), len(found.sources.documents)
    print(f"\n{found.relevance.describe}; {queries:,} queries, {documents:,} documents")
    write_atomically(output / PER_QUERY, found.per_query_jsonl())
    report = write_eval_report(output / REPORT, found)
    # the last, because its being there says that the evaluation is finished
    write_atomically(output / METRICS, found.metrics_json())
    print(f"report: {report}", file=sys.stderr)
    return 0
