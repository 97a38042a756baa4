"""`gemkr queries FILE`: one jsonl of queries from the files that OK-VQA and COCO publish, or a part of other queries."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gemkr.types import Query

HELP = "make one query file of OK-VQA's questions, answers and captions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from gemkr.data.queries import COCO_2014_NAMES

    parser.add_argument("file", metavar="FILE", help="OK-VQA's question file, or any file of queries")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="OUT.jsonl")
    parser.add_argument("--annotations", help="OK-VQA's annotation file: the answers")
    parser.add_argument(
        "--captions", help="json with image_id and caption (COCO's caption annotations or results)"
    )
    parser.add_argument("--images", help="keep the queries whose picture is in this folder")
    parser.add_argument(
        "--picture-names",
        default=COCO_2014_NAMES,
        metavar="PATTERN",
        help=f"image ids of OK-VQA's questions (default {COCO_2014_NAMES}; COCO 2017: {{image:012d}})",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.cli.split import as_lines
    from gemkr.data.queries import COCO_2014_NAMES, read_captions, read_okvqa, read_queries
    from gemkr.errors import DataError
    from gemkr.files import write_atomically

    output = require_writable(args.output, args.file, args.annotations, args.captions)
    if args.annotations or args.picture_names != COCO_2014_NAMES:
        queries: Iterable[Query] = read_okvqa(args.file, args.annotations, names=args.picture_names)
    else:
        queries = read_queries(args.file)
    if args.captions:
        queries = _with_captions(queries, read_captions(args.captions))
    read = list(queries)
    kept = read if args.images is None else list(_with_picture(read, args.images))
    if not kept:
        raise DataError(
            f"none of the pictures of {args.file} is in {args.images}; name the folder they are in"
        )
    write_atomically(output, as_lines(kept))
    print(f"{len(kept):,} of {len(read):,} queries, {len({q.image for q in kept if q.image}):,} pictures")
    print(
        f"with answers {sum(bool(q.answers) for q in kept):,}, with captions {sum(bool(q.caption) for q in kept):,}"
    )
    print(output)
    return 0


def _with_captions(queries: Iterable[Query], captions: dict[int, str]) -> Iterator[Query]:
    """A query that has a caption keeps it."""
    from gemkr.data.queries import coco_number

    for query in queries:
        number = None if query.image is None else coco_number(query.image)
        yield query if query.caption or number is None else replace(query, caption=captions.get(number))


def _with_picture(queries: Iterable[Query], folder: str) -> Iterator[Query]:
    from gemkr.errors import VisionError
    from gemkr.vision.pictures import PictureFolder

    pictures = PictureFolder(folder)
    for query in queries:
        try:
            found = query.image is not None and pictures.path(query.image)
        except VisionError:
            continue
        if found:
            yield query
