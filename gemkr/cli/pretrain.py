"""`gemkr pretrain`: a small LLaMA trained from scratch on a corpus."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "train a small LLaMA from scratch on a corpus (and on questions with answers)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, help="a YAML file, see train_configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="go on from the newest whole checkpoint, or from this one"
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config import PretrainConfig, load_config

    config = load_config(args.config, PretrainConfig, args.overrides)
    from gemkr.cli.train import report
    from gemkr.training.pretrain import MODEL_FOLDER, pretrain

    return report(pretrain(config, resume=args.resume), Path(config.output) / MODEL_FOLDER)
