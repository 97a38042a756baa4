"""`gemkr import-checkpoint FILE`: a checkpoint that the authors of GeMKR, UniIR, VLM2Vec, LamRA or PreFLMR publish, as one of ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemkr.training.checkpoints.imported import Imported

HELP = (
    "turn a checkpoint that the authors of GeMKR, UniIR, VLM2Vec, LamRA or PreFLMR publish into one of ours"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="their torch file, such as checkpoint_4.pth or clip_sf_large.pth, a folder of adapters, or of PreFLMR",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="such as model.llm=FOLDER")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FOLDER", help="a folder that does not exist yet"
    )
    parser.add_argument(
        "--config",
        required=True,
        help="a training or evaluation YAML, or the name of a packaged training configuration; only its section 'encoder', or else "
        "'model', is read (clip_sf, train_configs/gemkr_finetune.yaml)",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.config.files import has_section
    from gemkr.config.packaged import find_config
    from gemkr.errors import DataError

    args.config = find_config(args.config, "train")
    if args.output.exists():
        raise DataError(f"the output {args.output} exists already; choose another with -o, or delete it")
    require_writable(args.output, args.file)
    given = any(override.startswith("encoder.") for override in args.overrides)
    write = _encoder if given or has_section(args.config, "encoder") else _model
    if write is _model and (Path(args.file).is_dir() or args.file.endswith(".safetensors")):
        write = _reranker
    ignored = write(args)
    if ignored:
        print(f"not needed: {len(ignored)} tensors, such as {ignored[0]}")
    print(args.output)
    return 0


def _model(args: argparse.Namespace) -> list[str]:
    """Write a checkpoint of the generative model; what of theirs is not needed."""
    from dataclasses import replace

    from gemkr.config.files import load_section, to_mapping
    from gemkr.models.gemkr.config import ModelConfig

    config = replace(load_section(args.config, "model", ModelConfig, args.overrides), checkpoint=None)
    from gemkr.text.tokenizer import load_tokenizer
    from gemkr.training.checkpoints.checkpoint import save_checkpoint
    from gemkr.training.checkpoints.origin import Origin, hash_files
    from gemkr.training.checkpoints.published import read_published
    from gemkr.training.checkpoints.translation import translate
    from gemkr.training.finetune import KIND

    state, beside = read_published(args.file)
    result = translate(state, config, args.file)
    tokenizer = load_tokenizer(config.tokenizer or config.llm)
    origin = Origin(KIND, tokenizer.fingerprint(), hash_files([args.file]), {"model": to_mapping(config)})
    save_checkpoint(
        args.output, origin, result.weights, state={"imported": Path(args.file).name, "beside": beside}
    )
    for part in ("llm", "tower", "projector"):
        _count(part, [value for name, value in result.weights.items() if name.startswith(f"{part}.")])
    for line in result.assumed:
        print(f"not in the file, frozen in their training: {line}")
    return result.ignored


def _encoder(args: argparse.Namespace) -> list[str]:
    """Write a checkpoint of an encoder; what of theirs is not needed."""
    from gemkr.config.files import load_part
    from gemkr.training.contrastive.published import EncoderChoice, import_encoder

    choice = load_part(args.config, "encoder", EncoderChoice, args.overrides)
    return _save(args, "encoder", import_encoder(args.file, choice))


def _reranker(args: argparse.Namespace) -> list[str]:
    """Write a checkpoint of a reranker that asks a vision-language model; what of theirs is not needed."""
    from gemkr.config.files import load_part
    from gemkr.rerankers.published import ModelChoice, import_reranker, require_vlm

    choice = load_part(args.config, "model", ModelChoice, args.overrides)
    return _save(args, "model", import_reranker(args.file, require_vlm(choice.model, args.file)))


def _save(args: argparse.Namespace, part: str, result: Imported) -> list[str]:
    from gemkr.training.checkpoints.checkpoint import save_checkpoint

    state = {"imported": Path(args.file).name, "beside": result.beside}
    save_checkpoint(args.output, result.origin, result.weights, state=state)
    _count(part, list(result.weights.values()))
    return result.ignored


def _count(part: str, tensors: list[Any]) -> None:
    print(f"{part:<10} {len(tensors):>4} tensors {sum(value.numel() for value in tensors):>12,} parameters")
