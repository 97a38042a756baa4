"""`gemkr ask CONFIG QUESTION`: the passages that answer one question about a picture, with the clues that found them."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import positive
from gemkr.errors import DataError
from gemkr.text.clue_places import clue_place

if TYPE_CHECKING:
    from gemkr.types import Hit, Ranking

HELP = "search the passages that answer one question, optionally about a picture"
WIDTH = 100
SHOWN_CLUES = 5
SHOWN_MATCHES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        help="a YAML file with retrievers and a corpus, or the name of a packaged one (small, quickstart)",
    )
    parser.add_argument("question", help="the question")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the file's")
    parser.add_argument("--picture", metavar="FILE", help="a picture that the question is about")
    parser.add_argument(
        "--retriever", metavar="NAME", help="the section to use (default: the first of evaluate)"
    )
    parser.add_argument("-k", type=positive, default=5, help="how many passages (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object in place of text")


def run(args: argparse.Namespace) -> int:
    if args.picture is None and not args.question.strip():
        raise DataError("the question is empty; write one, or give a picture with --picture")
    if args.picture is not None:  # found out before models are loaded
        from gemkr.vision.decode import check_picture

        check_picture(Path(args.picture), f"the picture {args.picture}", "give another picture")
    from gemkr.loaded import load

    if args.config == "quickstart":
        require_quickstart()
    loaded = load(args.config, args.overrides, retriever=args.retriever)
    ranking = loaded.ask(args.question, args.picture, k=args.k)
    if args.json:
        from gemkr.data.records import to_record
        from gemkr.evaluation.report.matches import shown_matches, vector_matches

        record = to_record(ranking)
        for shown, hit in zip(record["hits"], ranking.hits, strict=True):
            shown |= {"title": hit.title, "text": hit.text} | shown_matches(hit) | vector_matches(hit)
        print(json.dumps(record, ensure_ascii=False))
        return 0
    print("\n".join(as_text(ranking)))
    return 0


def require_quickstart() -> None:
    """ConfigError where the packaged configuration has no quickstart to read."""
    from gemkr.cli.quickstart_folder import FOLDER_VARIABLE, MARK
    from gemkr.errors import ConfigError

    folder = Path(os.environ.get(FOLDER_VARIABLE, "runs/quickstart"))
    if not (folder / MARK).is_file():
        raise ConfigError(
            f"there is no quickstart in {folder}; run `gemkr quickstart` here first, or name the folder of one in {FOLDER_VARIABLE}"
        )


def as_text(ranking: Ranking) -> list[str]:
    """The lines that a person reads: the best clues, then the passages with their clues between ** signs."""
    lines = []
    if ranking.searched < 1:
        lines += [f"{ranking.searched:.0%} of the corpus was searched, shards are lost", ""]
    if ranking.clues:
        best = sorted(ranking.clues, key=lambda clue: -clue.log_prob)[:SHOWN_CLUES]
        lines += ["clues: " + " · ".join(f"{clue.text} ({clue.occurrences})" for clue in best), ""]
    for number, hit in enumerate(ranking.hits, 1):
        lines.append(f"{number}. {hit.doc_id}{f'  {hit.title}' if hit.title else ''}  [{hit.score:.3f}]")
        shown = " ".join(marked(hit).split())
        lines += textwrap.wrap(shown, WIDTH, initial_indent="   ", subsequent_indent="   ")
    return lines or ["no passage was found"]


def marked(hit: Hit) -> str:
    """The passage with the first occurrence of its best clue between ** signs; of late interaction with what the question's
    vectors found most."""
    if hit.matches:
        from gemkr.evaluation.report.matches import shown_matches

        return _strongest(hit.text, shown_matches(hit).get("matches", []))
    place = clue_place(hit.text, [evidence.text for evidence in hit.evidence])
    if place is None:
        return hit.text
    start, stop = place
    return f"{hit.text[:start]}**{hit.text[start:stop]}**{hit.text[stop:]}"


def _strongest(text: str, matches: list[list]) -> str:
    """The text with its strongest matches between ** signs."""
    best = sorted(matches, key=lambda match: -match[2])[:SHOWN_MATCHES]
    for start, stop, _ in sorted(best, reverse=True):
        text = f"{text[:start]}**{text[start:stop]}**{text[stop:]}"
    return text
