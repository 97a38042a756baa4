"""`gemkr split`: holds a share of the queries out, so that settings are chosen on queries no model has learned from.

Queries over one picture, or with a gold passage in common, stay together, and so do those that others join: nothing that
is asked about on one side is shown on the other. Which part a group falls into depends on its name and the seed alone, so
that two files are split alike where their groups begin alike.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import natural, share
from gemkr.errors import DataError

if TYPE_CHECKING:
    from gemkr.types import Query

HELP = "hold a share of the queries out, whole pictures and passages at a time"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queries", type=Path, help="any file of queries")
    parser.add_argument(
        "--rest", type=Path, required=True, help="where the queries to learn from go, *.jsonl"
    )
    parser.add_argument("--held-out", type=Path, required=True, help="where the held-out queries go, *.jsonl")
    parser.add_argument("--share", type=share, default=0.1, help="share of the groups held out (default 0.1)")
    parser.add_argument("--seed", type=natural, default=0)


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.data.queries import read_queries
    from gemkr.data.query_lines import as_lines
    from gemkr.files import write_atomically

    if args.rest.resolve() == args.held_out.resolve():
        raise DataError(f"--rest and --held-out are both {args.rest}; name two files")
    paths = [require_writable(path, args.queries) for path in (args.rest, args.held_out)]
    queries = list(read_queries(args.queries))
    parts: tuple[list[Query], list[Query]] = ([], [])
    groups: tuple[set[str], set[str]] = (set(), set())
    for query, group in zip(queries, groups_of(queries), strict=True):
        held_out = is_held_out(group, args.share, args.seed)
        parts[held_out].append(query)
        groups[held_out].add(group)
    for part, name in zip(parts, ("rest", "held-out"), strict=True):
        if not part:
            raise DataError(
                f"a share of {args.share} leaves none of the queries of {args.queries} for --{name}; choose another"
            )
    for path, part, own, name in zip(paths, parts, groups, ("rest", "held-out"), strict=True):
        write_atomically(path, as_lines(part))
        print(f"{name:<8}{len(part):>9,} queries in {len(own):,} groups  {path}")
    return 0


def groups_of(queries: Sequence[Query]) -> list[str]:
    """The group of each query, by the name of the group's first one: its picture, else first gold passage, else question.

    Groups are the connected components of queries, pictures and gold passages; a query with neither goes by its question.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while parents.setdefault(key, key) != key:
            parents[key] = parents[parents[key]]
            key = parents[key]
        return key

    keys = [_keys(query) for query in queries]
    for first, *others in keys:
        for other in others:
            parents[root(other)] = root(first)
    names: dict[tuple[str, str], str] = {}
    return [names.setdefault(root(first), first[1]) for first, *_ in keys]


def _keys(query: Query) -> list[tuple[str, str]]:
    """What keeps a query with others, the one that names it first."""
    keys = [] if query.image is None else [("picture", query.image)]
    keys += [("passage", doc_id) for doc_id in query.positives]
    return keys or [("question", query.question)]


def is_held_out(group: str, part: float, seed: int) -> bool:
    """Whether a group is held out: a hash of seed and name, read as a number in [0, 1), is below `part`."""
    digest = hashlib.sha256(f"{seed} {group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < part
