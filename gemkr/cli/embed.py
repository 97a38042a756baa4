"""`gemkr embed CONFIG NAME`: the document vectors that a dense or late interaction retriever of a configuration reads."""

from __future__ import annotations

import argparse

HELP = "encode the documents of a corpus for a dense or late interaction retriever"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help="a YAML file with retrievers and a corpus, or the name of a packaged one"
    )
    parser.add_argument("name", metavar="NAME", help="the section of the retriever")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")


def run(args: argparse.Namespace) -> int:
    import time

    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.errors import ConfigError
    from gemkr.evaluation.config import EvalConfig

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    sources = config.sources()
    section = sources.section(args.name)
    embed = getattr(section.cls, "embed", None)
    if embed is None:
        raise ConfigError(
            f"the retriever {args.name!r} is of the kind {section.kind!r}; gemkr embed needs a dense or late_interaction one"
        )
    folder = getattr(section.config, section.cls.embeds_into)
    if folder is None:
        raise ConfigError(
            f"retrievers.{args.name}.{section.cls.embeds_into} is missing; name the folder that the vectors go to"
        )
    sources.part(section.config.encoder)
    began = time.perf_counter()
    done = embed(section.config, sources)
    seconds = time.perf_counter() - began
    speed = f", {done.encoded / seconds:,.0f} a second" if done.encoded else ""
    built = f", {section.config.index.kind} index built" if done.index_built else ""
    there = f"{done.there:,} were there already"
    print(f"{done.encoded:,} documents encoded{speed}, {there}{built} -> {folder}")
    return 0
