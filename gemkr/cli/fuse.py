"""`gemkr fuse RUN RUN … -o OUT`: several runs over the same queries made one, by reciprocal rank fusion."""

from __future__ import annotations

import argparse

from gemkr.cli.numbers import not_negative, positive

HELP = "fuse runs by reciprocal rank"
RRF_K = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="two runs or more: of TREC, UniIR or MS MARCO, run.jsonl, or the GeMKR authors' .json",
    )
    parser.add_argument(
        "-o", "--output", required=True, help="the fused run: TREC, or *.jsonl with the evidence"
    )
    parser.add_argument("--queries", help="the order of a .json run")
    parser.add_argument("--k", type=positive, default=10, help="documents per query (default 10)")
    parser.add_argument("--depth", type=positive, help="only the first so many documents of each run")
    parser.add_argument(
        "--rrf-k",
        type=not_negative,
        default=RRF_K,
        help="the constant in 1 / (constant + rank) (default 60)",
    )


def run(args: argparse.Namespace) -> int:
    import json

    from gemkr.cli.output import require_writable
    from gemkr.data.queries import read_queries
    from gemkr.data.records import to_record
    from gemkr.data.runs import load_run
    from gemkr.data.trec import write_run
    from gemkr.errors import DataError
    from gemkr.files import write_atomically
    from gemkr.retrievers.fusion import fuse_runs

    if len(args.runs) < 2:
        raise DataError(f"there is nothing to fuse: {args.runs[0]} is the only run; name at least two")
    output = require_writable(args.output, *args.runs, args.queries)
    queries = list(read_queries(args.queries)) if args.queries else []
    runs = [load_run(path, queries) for path in args.runs]
    for path, hits in zip(args.runs[1:], runs[1:]):
        if runs[0].keys().isdisjoint(hits):
            raise DataError(
                f"{args.runs[0]} and {path} have no query in common; fuse runs over the same queries"
            )
    rankings = fuse_runs(runs, args.k, depth=args.depth, k=args.rrf_k)
    if output.suffix == ".jsonl":
        write_atomically(output, "".join(json.dumps(to_record(ranking)) + "\n" for ranking in rankings))
    else:
        write_run(output, rankings)
    print(output)
    return 0
