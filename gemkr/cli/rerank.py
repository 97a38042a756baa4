"""`gemkr rerank CONFIG RUN -o FOLDER`: any run reranked by a section of a configuration."""

from __future__ import annotations

import argparse

HELP = "rerank a run with the reranker of a configuration"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="an evaluation configuration with a section of kind reranked")
    parser.add_argument("run_file", metavar="RUN", help="the run: TREC, run.jsonl, or another known form")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("-o", "--output", required=True, help="the folder of the result")
    parser.add_argument(
        "--retriever", metavar="NAME", help="the section (default: the first of kind reranked)"
    )
    parser.add_argument("--restart", action="store_true", help="drop an earlier result and start over")


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.retrieve import print_speed
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.reranking import rerank_run

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    path, result = rerank_run(config, args.run_file, args.output, args.retriever, restart=args.restart)
    print(path)
    print_speed(path.parent.name, result)
    return 0
