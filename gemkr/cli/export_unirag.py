"""`gemkr export-unirag CONFIG RUN -o OUT.jsonl`: a run as UniRAG's material for generation, with complements of its candidates."""

from __future__ import annotations

import argparse
from pathlib import Path

from gemkr.cli.numbers import positive

HELP = "write a run's queries and candidates for generation, as UniRAG does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="an evaluation configuration with queries and corpus")
    parser.add_argument("run_file", metavar="RUN", help="the run: TREC, run.jsonl, or another known form")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.jsonl")
    parser.add_argument("-k", type=positive, default=5, help="candidates of a query (default 5)")
    parser.add_argument(
        "--complements",
        metavar="NAME",
        help="the section that finds for each text a picture, and for each picture a text",
    )
    parser.add_argument("--instructions", help="M-BEIR's query_instructions.tsv, for the complements")


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.data.mbeir import InstructionProvider
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.unirag import export_unirag

    require_writable(args.output, args.run_file, args.config)
    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    instructions = None if args.instructions is None else InstructionProvider(args.instructions)
    queries, complements = export_unirag(
        config,
        args.run_file,
        args.output,
        k=args.k,
        complements=args.complements,
        instructions=instructions,
    )
    print(
        f"{args.output}: {queries:,} queries" + (f", {complements:,} complements" if args.complements else "")
    )
    return 0
