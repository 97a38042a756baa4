"""`gemkr fit-scorer CONFIG`: learns the second scorer of an evaluation ahead of it."""

from __future__ import annotations

import argparse

HELP = "learn the second scorer that an evaluation configuration names"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="an evaluation configuration with a section 'learned_scorer'")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace those of the file"
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.config.files import load_config
    from gemkr.errors import ConfigError
    from gemkr.evaluation.config import EvalConfig
    from gemkr.files import require_writable_folder
    from gemkr.sources import Sources

    config = load_config(args.config, EvalConfig, args.overrides)
    if config.learned_scorer is None:
        raise ConfigError(f"{args.config} has no scorer to learn; add the section 'learned_scorer'")
    require_writable_folder(config.output)
    scorer = Sources(config).learned_scorer
    print(f"a scorer that weighs {len(scorer.impacts):,} terms in {len(scorer):,} documents")
    return 0
