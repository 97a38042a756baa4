"""`gemkr split`: sets a share of the queries apart, so that settings are chosen on queries no model has learned from.

Queries over one picture, or with one gold passage, stay together. Which part a group falls into depends on its name and
the seed alone, so that two files are split alike.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import natural, share
from gemkr.errors import DataError

if TYPE_CHECKING:
    from gemkr.types import Query

HELP = "set a share of the queries apart, whole pictures and passages at a time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queries", type=Path, help="any file of queries")
    parser.add_argument(
        "--rest", type=Path, required=True, help="where the queries to learn from go, *.jsonl"
    )
    parser.add_argument("--apart", type=Path, required=True, help="where the queries set apart go, *.jsonl")
    parser.add_argument(
        "--share", type=share, default=0.1, help="share of the groups set apart (default 0.1)"
    )
    parser.add_argument("--seed", type=natural, default=0)


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.evaluation.files import write_atomically
    from gemkr.queries import read_queries

    if args.rest == args.apart:
        raise DataError(f"--rest and --apart are both {args.rest}; name two files")
    paths = [require_writable(path, args.queries) for path in (args.rest, args.apart)]
    parts: tuple[list[Query], list[Query]] = ([], [])
    for query in read_queries(args.queries):
        parts[is_apart(group_of(query), args.share, args.seed)].append(query)
    for part, name in zip(parts, ("rest", "apart"), strict=True):
        if not part:
            raise DataError(
                f"a share of {args.share} leaves none of the queries of {args.queries} for --{name}; choose another"
            )
    for path, part, name in zip(paths, parts, ("rest", "apart"), strict=True):
        write_atomically(path, as_lines(part))
        print(f"{name:<8}{len(part):>9,} queries in {len({group_of(q) for q in part}):,} groups  {path}")
    return 0


def group_of(query: Query) -> str:
    """What keeps queries together: the picture, else the first gold passage, else the question."""
    return query.image or (query.positives[0] if query.positives else query.question)


def is_apart(group: str, part: float, seed: int) -> bool:
    """Whether a group is set apart: a hash of seed and name, read as a number in [0, 1), is below `part`."""
    digest = hashlib.sha256(f"{seed} {group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < part


def as_lines(queries: Iterable[Query]) -> str:
    """Queries as jsonl; empty fields are left out."""
    rows = ({key: value for key, value in dataclasses.asdict(query).items() if value} for query in queries)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
