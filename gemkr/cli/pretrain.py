"""`gemkr pretrain`: a small LLaMA trained from scratch on a corpus."""

from __future__ import annotations

import argparse
from pathlib import Path

from gemkr.cli import train

HELP = "train a small LLaMA from scratch on a corpus (and on questions with answers)"
add_arguments = train.add_arguments


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.training.config import PretrainConfig
    from gemkr.training.early import check_pretraining

    config = load_config(find_config(args.config, "pretrain"), PretrainConfig, args.overrides)
    check_pretraining(config, args.resume)
    from gemkr.training.pretrain import MODEL_FOLDER, pretrain

    return train.report(pretrain(config, resume=args.resume), Path(config.output) / MODEL_FOLDER)
