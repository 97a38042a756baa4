"""`python -m benchmarks.okvqa.fit CONFIG NAME`: trains what the retriever NAME of an evaluation needs, before the evaluation.

Classifiers and learned scorers have a class method `fit(config, sources)`; retrieval itself never trains.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from gemkr.config.files import load_config
from gemkr.config.section import Section
from gemkr.errors import ConfigError, GemkrError
from gemkr.evaluation.config import EvalConfig


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 after one sentence about the error."""
    parser = argparse.ArgumentParser(prog="benchmarks.okvqa.fit", description=__doc__.splitlines()[0])
    parser.add_argument("config", help="an evaluation configuration")
    parser.add_argument("retriever", help="the section whose parts are to be learned")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    try:
        fit(load_config(args.config, EvalConfig, args.overrides), args.retriever)
    except GemkrError as error:
        print(f"benchmarks.okvqa.fit: {error}", file=sys.stderr)
        return 1
    return 0


def fit(config: EvalConfig, name: str) -> None:
    """Learn everything that the retriever's section names and that is not learned yet; say what."""
    sources = config.sources()
    parts = list(learned_parts(sources.section(name)))
    if not parts:
        raise ConfigError(
            f"the retriever {name!r} has nothing to learn; name one with a classifier or a learned scorer"
        )
    for part in parts:
        print(part.cls.fit(part.config, sources))


def learned_parts(section: Section) -> Iterator[Section]:
    """The section itself and those inside it, as far as their classes learn; each once."""
    seen: set[Any] = set()
    for found in _sections(section):
        if hasattr(found.cls, "fit") and (found.cls, found.config) not in seen:
            seen.add((found.cls, found.config))
            yield found


def _sections(value: Any) -> Iterator[Section]:
    if isinstance(value, Section):
        yield value
        yield from _sections(value.config)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _sections(getattr(value, field.name))
    elif isinstance(value, tuple):
        for inner in value:
            yield from _sections(inner)


if __name__ == "__main__":
    sys.exit(main())
