"""`gemkr tune-mix CONFIG RUN RERANKED`: how much retrieval should count beside reranking, on development data."""

from __future__ import annotations

import argparse

HELP = "choose a reranker's retrieval_weight on development data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help="an evaluation configuration: its queries, relevance and first metric count"
    )
    parser.add_argument("run_file", metavar="RUN", help="the run that was reranked")
    parser.add_argument("reranked", metavar="RERANKED", help="what `gemkr rerank` made of it")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "--retriever",
        metavar="NAME",
        help="the section whose reranker says whether scores are scaled (default: the first of kind reranked)",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.evaluation.config import EvalConfig
    from gemkr.evaluation.reranking import weight_curve

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    curve = weight_curve(config, args.run_file, args.reranked, args.retriever)
    print(f"retrieval_weight  {curve.metric}{'' if curve.scaled else '  (scores as they come)'}")
    for weight, value in curve.values.items():
        print(f"{weight:>16.2f}  {value:.4f}{'  best' if weight == curve.best else ''}")
    print(curve.relevance)
    return 0
