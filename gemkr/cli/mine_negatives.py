"""`gemkr mine-negatives CONFIG NAME -o RUN`: hard negatives, and positives, of a retriever or of a run, for contrastive training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
    parser.add_argument(
        "--positives",
        type=Path,
        metavar="OUT.jsonl",
        help="write the queries there with positives to learn from: of a query that has none, the hits that hold an answer",
    )
    parser.add_argument(
        "--positives-per-query", type=positive, metavar="N", help="the first N of these hits (default: all)"
    )
    parser.add_argument("--restart", action="store_true", help="drop the section's own run and start over")


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.errors import ConfigError
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.negatives import mine_negatives
    from gemkr.training.contrastive.config import Window

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    window = Window(skip=args.skip, depth=args.depth, below=args.below)
    if args.positives is not None:
        require_writable(args.positives, config.queries, config.corpus, args.name, args.output)
    elif args.positives_per_query is not None:
        raise ConfigError("--positives-per-query is for --positives, which is not there; name its file")
    mined = mine_negatives(
        config,
        args.name,
        args.output,
        window,
        per_query=args.per_query,
        positives=args.positives,
        positives_per_query=args.positives_per_query,
        restart=args.restart,
    )
    left_out = [(mined.unknown, "neither positives nor answers"), (mined.empty, "no negative left")]
    if args.positives is not None:
        unfound = mined.queries - mined.unknown - mined.learnable
        left_out.append((unfound, "no positive and no hit with an answer, and are left out"))
    for count, what in left_out:
        if count:
            print(f"{count:,} of {mined.queries:,} queries have {what}", file=sys.stderr)
    print(f"{mined.negatives:,} negatives of {mined.mined:,} queries -> {args.output}")
    if args.positives is not None:
        print(f"{mined.learnable:,} of {mined.queries:,} queries with positives -> {args.positives}")
    return 0
