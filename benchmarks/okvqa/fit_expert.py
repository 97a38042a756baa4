"""`gemkr fit-expert CONFIG`: learns the answer expert of an evaluation ahead of it, for a model that reads through its encoder."""

from __future__ import annotations

import argparse

HELP = "learn the answer expert that an evaluation configuration names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="an evaluation configuration with a section 'answer_expert'")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the file"
    )


def run(args: argparse.Namespace) -> int:
    from benchmarks.okvqa.together import expert_guesser
    from gemkr.config.files import load_config
    from gemkr.errors import ConfigError
    from gemkr.evaluation.config import EvalConfig
    from gemkr.files import require_writable_folder
    from gemkr.sources import Sources

    config = load_config(args.config, EvalConfig, args.overrides)
    if config.answer_expert is None:
        raise ConfigError(f"{args.config} has no answer expert to learn; add the section 'answer_expert'")
    require_writable_folder(config.output)
    guesser = expert_guesser(config, Sources(config))
    print(f"an expert for {len(guesser.answers):,} answers")
    return 0
