"""`gemkr embed CONFIG NAME`: the document vectors that a dense retriever of a configuration reads."""

from __future__ import annotations

import argparse

HELP = "encode the documents of a corpus for a dense retriever"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", help="a YAML file with retrievers and a corpus, or the name of a packaged one"
    )
    parser.add_argument("name", metavar="NAME", help="the section of the dense retriever")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")


def run(args: argparse.Namespace) -> int:
    import time

    from gemkr.config.files import load_config
    from gemkr.config.packaged import find_config
    from gemkr.errors import ConfigError
    from gemkr.evaluation.config import EvalConfig
    from gemkr.retrievers.dense import DenseRetriever, embed

    config = load_config(find_config(args.config, "eval"), EvalConfig, args.overrides)
    sources = config.sources()
    settings = sources.section(args.name).config
    if not isinstance(settings, DenseRetriever.Config):
        raise ConfigError(
            f"the retriever {args.name!r} is of the kind {sources.section(args.name).kind!r}; gemkr embed needs a dense one"
        )
    if settings.vectors is None:
        raise ConfigError(
            f"retrievers.{args.name}.vectors is missing; name the folder that the vectors go to"
        )
    sources.part(settings.encoder)
    began = time.perf_counter()
    done = embed(settings, sources)
    seconds = time.perf_counter() - began
    speed = f", {done.encoded / seconds:,.0f} a second" if done.encoded else ""
    built = f", {settings.index.kind} index built" if done.index_built else ""
    print(
        f"{done.encoded:,} documents encoded{speed}, {done.there:,} were there already{built} -> {settings.vectors}"
    )
    return 0
