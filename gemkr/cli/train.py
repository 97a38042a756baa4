"""`gemkr train`: fine-tuning on mined clues, or contrastive training (section `encoder`), or that of a reranker (`rerank`)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemkr.training.loop.trainer import Outcome

HELP = "fine-tune a model to write clues, an encoder to find documents, or a reranker"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help="a YAML file, or the name of a packaged configuration (small, quickstart)"
    )
    add_run_arguments(parser)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Overrides and --resume, for every command that trains."""
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument(
        "--resume", metavar="auto|PATH", help="go on from the newest whole checkpoint, or from this one"
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import has_section, load_config
    from gemkr.config.packaged import find_config

    path = find_config(args.config, "train")
    if has_section(path, "encoder"):
        from gemkr.training.contrastive.config import ContrastiveConfig
        from gemkr.training.contrastive.run import train_encoder

        encoder = load_config(path, ContrastiveConfig, args.overrides)
        outcome = train_encoder(encoder, resume=args.resume)
        return report(outcome, outcome.checkpoint)
    if has_section(path, "rerank"):
        from gemkr.rerankers.config import RerankerTrainConfig
        from gemkr.rerankers.training import train_reranker

        reranker = load_config(path, RerankerTrainConfig, args.overrides)
        outcome = train_reranker(reranker, resume=args.resume)
        return report(outcome, outcome.checkpoint)
    from gemkr.training.config import TrainConfig
    from gemkr.training.early import check_finetuning

    config = load_config(path, TrainConfig, args.overrides)
    check_finetuning(config, args.resume)
    from gemkr.training.finetune import finetune

    outcome = finetune(config, resume=args.resume)
    return report(outcome, outcome.checkpoint)


def report(outcome: Outcome, result: Path) -> int:
    """Say where the result is; the exit status is 0, or 128 + the signal that stopped the run."""
    if outcome.stopped_by:
        print(
            f"gemkr: stopped by signal {outcome.stopped_by} after step {outcome.step} of {outcome.total_steps}; "
            f"{outcome.checkpoint} is saved, go on with --resume auto",
            file=sys.stderr,
        )
        return 128 + outcome.stopped_by
    print(result)
    return 0
