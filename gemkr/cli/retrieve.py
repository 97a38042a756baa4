"""`gemkr retrieve CONFIG`: rank documents for the queries of a configuration, without scoring them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemkr.evaluation.harness import RunResult

HELP = "rank documents for queries: run.trec, and run.jsonl with the evidence"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--retriever", metavar="NAME", help="the section to run (default: the first of evaluate)"
    )


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """CONFIG, overrides and --restart, for every command that runs an EvalConfig."""
    parser.add_argument(
        "config", help="a YAML file, or the name of a packaged configuration (small, quickstart)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "--restart", action="store_true", help="drop the results in the output folder and start over"
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.runs import require_output, run_retriever

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    name = args.retriever or config.evaluated[0]
    config.require("queries")
    require_output(config)
    sources = config.sources()
    sources.section(name)
    result = run_retriever(config, sources, name, restart=args.restart)
    print(sources.run_folder(name) / "run.trec")
    print_speed(name, result)
    return 0


def print_speed(name: str, result: RunResult) -> None:
    """One line on stderr: how many queries, how fast, how many were there already."""
    parts = [f"{name}: {len(result.rankings):,} queries"]
    if result.resumed:
        parts.append(f"{result.resumed:,} of them from an earlier run")
    if result.seconds > 0:
        parts.append(f"{result.answered / result.seconds:,.1f} a second")
    print(", ".join(parts), file=sys.stderr)
