"""`gemkr answer CONFIG`: a reader answers the queries of a configuration from retrieved passages; scored where answers are known."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import share
from gemkr.cli.retrieve import add_config_arguments

if TYPE_CHECKING:
    from gemkr.evaluation.answer_evaluation import AnswerEvaluation
    from gemkr.evaluation.answer_runs import AnswerRun

HELP = "answer queries from retrieved passages: answers.jsonl, with the passage that each rests on"
RESULTS = "answers.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--calibrate",
        metavar="FILE",
        help="fit the confidence of answers to these queries, which the reader must not have learned from",
    )
    parser.add_argument(
        "--coverage",
        type=share,
        default=0.5,
        help="with --calibrate: the share of queries to answer, which sets the threshold (default 0.5)",
    )


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import replace

    from gemkr.cli.output import require_writable
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.evaluation.answer_evaluation import (
        answer_all,
        calibrate,
        evaluate_answers,
        require_calibration_material,
    )
    from gemkr.evaluation.answer_runs import FOLDER
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.runs import require_output
    from gemkr.files import write_atomically

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    config.require("queries")
    output = require_output(config)
    if args.calibrate is not None:
        votes = config.answer and config.answer.annotations
        require_writable(args.calibrate, args.config, config.queries, config.corpus, votes)
        if config.answer is not None:
            config = replace(config, answer=replace(config.answer, calibration=None))
    sources = config.sources()
    if args.calibrate is not None:
        require_calibration_material(config, sources)
    runs = answer_all(config, sources, restart=args.restart, report=print_speed)
    if args.calibrate is not None:
        for name, figures in calibrate(config, sources, runs, args.calibrate, args.coverage).items():
            print(f"{name}: {figures}")
        print(args.calibrate)
        return 0
    if any(query.answers for query in sources.queries) or config.answer.annotations is not None:
        found = evaluate_answers(config, sources, runs)
        write_atomically(output / RESULTS, json.dumps(found.to_json(), indent=1) + "\n")
        print("\n".join(as_text(found)))
    for name in runs:
        print(Path(output, FOLDER, name, "answers.jsonl"))
    return 0


def as_text(found: AnswerEvaluation) -> list[str]:
    """The table of answers, tests against the main row, and what abstaining is worth."""
    from gemkr.evaluation.report.table import text_comparison, text_table

    lines = [text_table(found.rows), ""]
    for name, test in found.tests.items():
        lines += [text_comparison(test, found.main, name), ""]
    lines += [f"{name}: {each}" for name, each in found.abstention.items()]
    return [*lines, "", f"{found.describe}; {len(found.rows[found.main].query_ids):,} queries"]


def print_speed(name: str, run: AnswerRun) -> None:
    """One line on stderr: how many answers, how fast, how many were there already."""
    parts = [f"answers from {name}: {len(run.answers):,} queries"]
    if run.resumed:
        parts.append(f"{run.resumed:,} of them from an earlier run")
    if run.seconds > 0:
        parts.append(f"{len(run.answers) / run.seconds:,.1f} a second")
    print(", ".join(parts), file=sys.stderr)
