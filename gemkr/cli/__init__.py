"""The `gemkr` command: finds the subcommand, turns a GemkrError or a full GPU into one line and exit status 1.

Each subcommand is a module with `HELP`, `add_arguments(parser)` and `run(args) -> int`; heavy imports
belong inside `run`. Results go to stdout, logs and progress to stderr; usage errors exit with 2.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from gemkr import __version__
from gemkr.data.text_files import utf8_fault
from gemkr.errors import GemkrError, first_line

COMMANDS = {
    "index": "gemkr.cli.index",
    "collection": "gemkr.cli.collection",
    "regions": "gemkr.cli.regions",
    "queries": "gemkr.cli.queries",
    "convert": "gemkr.cli.convert",
    "split": "gemkr.cli.split",
    "mine": "gemkr.cli.mine",
    "mine-negatives": "gemkr.cli.mine_negatives",
    "pretrain": "gemkr.cli.pretrain",
    "train": "gemkr.cli.train",
    "train-reader": "gemkr.cli.train_reader",
    "judge": "gemkr.cli.judge",
    "import-checkpoint": "gemkr.cli.import_checkpoint",
    "merge-adapters": "gemkr.cli.merge_adapters",
    "embed": "gemkr.cli.embed",
    "ask": "gemkr.cli.ask",
    "retrieve": "gemkr.cli.retrieve",
    "rerank": "gemkr.cli.rerank",
    "tune-mix": "gemkr.cli.tune_mix",
    "fuse": "gemkr.cli.fuse",
    "export-unirag": "gemkr.cli.export_unirag",
    "score": "gemkr.cli.score",
    "answer": "gemkr.cli.answer",
    "eval": "gemkr.cli.eval",
    "settings": "gemkr.cli.settings",
    "serve": "gemkr.cli.serve",
    "quickstart": "gemkr.cli.quickstart",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; importing the subcommand modules costs no torch."""
    parser = argparse.ArgumentParser(prog="gemkr", description="Generative multi-modal knowledge retrieval.")
    parser.add_argument("--version", action="version", version=f"gemkr {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, home in COMMANDS.items():
        module = import_module(home)
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a command; `key=value` overrides may stand before, between and after its options."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    unexpected = [word for word in rest if word.startswith("-") or "=" not in word]
    if unexpected or (rest and not hasattr(args, "overrides")):
        hint = "; settings are given as key=value" if hasattr(args, "overrides") else ""
        parser.error(f"unrecognized arguments: {' '.join(unexpected or rest)}{hint}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    for name in ("text", "question"):  # names of files may hold any bytes, what a tokenizer reads may not
        if not getattr(args, name, "").isprintable() and utf8_fault(getattr(args, name)) is not None:
            parser.error(f"the {name} is not valid UTF-8; write it in a UTF-8 terminal")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("gemkr").setLevel(logging.INFO)
    args = parse(argv)
    try:
        return args.run(args)
    except GemkrError as error:
        print(f"gemkr: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:  # a full disk or a lost file that no reader or writer has put into its own words
        where = f" ({error.filename})" if error.filename else ""
        print(
            f"gemkr: the operating system refused: {error.strerror or error}{where}; make room or correct the path",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("gemkr: interrupted", file=sys.stderr)
        return 130
    except _full_gpu() as error:
        figures = ", ".join(first_line(error).split(". ")[1:3])
        print(
            f"gemkr: the GPU ran out of memory{f' ({figures})' if figures else ''}; lower batch_size (and raise gradient_accumulation "
            "as much), decoding.batch_size or decoding.beam_size, or --batch",
            file=sys.stderr,
        )
        return 1


def _full_gpu() -> tuple[type[Exception], ...]:
    """The error of a GPU without memory, which only torch raises: none where it was never imported."""
    torch = sys.modules.get("torch")
    return () if torch is None else (torch.cuda.OutOfMemoryError,)
