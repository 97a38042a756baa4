"""`gemkr mine-negatives CONFIG NAME -o RUN`: hard negatives of a retriever or of a run, for contrastive training."""

from __future__ import annotations

import argparse
import sys

from gemkr.cli.numbers import natural, positive, positive_number

HELP = "write the hard negatives of a retriever's ranking as a run for gemkr train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="an evaluation configuration over the training queries")
    parser.add_argument("name", metavar="NAME", help="a section of its retrievers, or the file of a run")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        help="the run of negatives; a section's own run goes into OUTPUT.runs",
    )
    parser.add_argument("--skip", type=natural, default=0, help="the first ranks to leave out (default: 0)")
    parser.add_argument("--depth", type=positive, default=100, help="the last rank (default: 100)")
    parser.add_argument(
        "--below",
        type=positive_number,
        metavar="SHARE",
        help="keep only scores below this share of the best relevant document's",
    )
    parser.add_argument(
        "--per-query", type=positive, metavar="N", help="the first N of a query (default: all)"
    )
    parser.add_argument("--restart", action="store_true", help="drop the section's own run and start over")


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.negatives import mine_negatives
    from gemkr.training.contrastive.config import Window

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    window = Window(skip=args.skip, depth=args.depth, below=args.below)
    mined = mine_negatives(
        config, args.name, args.output, window, per_query=args.per_query, restart=args.restart
    )
    for count, what in ((mined.unknown, "neither positives nor answers"), (mined.empty, "no negative left")):
        if count:
            print(f"{count:,} of {mined.queries:,} queries have {what}", file=sys.stderr)
    print(f"{mined.negatives:,} negatives of {mined.mined:,} queries -> {args.output}")
    return 0
