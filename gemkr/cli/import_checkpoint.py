"""`gemkr import-checkpoint FILE`: a checkpoint of the GeMKR authors, as a checkpoint folder of ours."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn a checkpoint that the GeMKR authors publish into one that train, eval and retrieve load"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="their torch file, such as checkpoint_4.pth")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as model.llm=FOLDER")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="a folder that does not exist yet"
    )
    parser.add_argument(
        "--config",
        required=True,
        help="a training or evaluation YAML; only its section 'model' is read (train_configs/gemkr_finetune.yaml)",
    )


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from gemkr.cli.output import require_writable
    from gemkr.config.files import load_section, to_mapping
    from gemkr.errors import DataError
    from gemkr.models.gemkr.config import ModelConfig

    config = replace(load_section(args.config, "model", ModelConfig, args.overrides), checkpoint=None)
    if args.output.exists():
        raise DataError(f"the output {args.output} exists already; choose another with -o, or delete it")
    require_writable(args.output, args.file)
    from gemkr.text.tokenizer import load_tokenizer
    from gemkr.training.checkpoints.checkpoint import save_checkpoint
    from gemkr.training.checkpoints.origin import Origin, hash_files
    from gemkr.training.checkpoints.published import read_published, translate
    from gemkr.training.finetune import KIND

    state, beside = read_published(args.file)
    result = translate(state, config, args.file)
    tokenizer = load_tokenizer(config.tokenizer or config.llm)
    origin = Origin(KIND, tokenizer.fingerprint(), hash_files([args.file]), {"model": to_mapping(config)})
    save_checkpoint(
        args.output, origin, result.weights, state={"imported": Path(args.file).name, "beside": beside}
    )
    for part in ("llm", "tower", "projector"):
        own = [value for name, value in result.weights.items() if name.startswith(f"{part}.")]
        print(f"{part:<10} {len(own):>4} tensors {sum(value.numel() for value in own):>12,} parameters")
    for line in result.assumed:
        print(f"not in the file, frozen in their training: {line}")
    if result.ignored:
        print(f"not needed: {len(result.ignored)} tensors, such as {result.ignored[0]}")
    print(args.output)
    return 0
