"""`gemkr merge-adapters CONFIG -o FOLDER`: the trained adapters of a vision-language model as a model without adapters."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "merge the trained adapters of an encoder into its model, for a next stage of training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        help="a training or evaluation YAML, or the name of a packaged training configuration; only its section 'encoder' "
        "(kind vlm) is read",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as encoder.checkpoint=FOLDER")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="a folder that does not exist yet"
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_part
    from gemkr.config.packaged import find_config
    from gemkr.training.contrastive.merging import merge_encoder
    from gemkr.training.contrastive.published import EncoderChoice

    choice = load_part(find_config(args.config, "train"), "encoder", EncoderChoice, args.overrides)
    merged = merge_encoder(choice.encoder, args.output)
    print(f"{merged} modules merged\n{args.output}")
    return 0
