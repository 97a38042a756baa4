"""`gemkr train-reader`: a model that answers from passages, trained on queries with answers and a run over them."""

from __future__ import annotations

import argparse

from gemkr.cli import train

HELP = "train a reader, which answers questions from retrieved passages"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="a YAML file (keys: gemkr settings reader)")
    train.add_run_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from gemkr.answering.config import ReaderTrainConfig
    from gemkr.config.files import load_config

    config = load_config(args.config, ReaderTrainConfig, args.overrides)
    from gemkr.answering.training import train_reader

    outcome = train_reader(config, resume=args.resume)
    return train.report(outcome, outcome.checkpoint)
