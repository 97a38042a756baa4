"""`gemkr convert FOLDER TABLE.csv`: a corpus of pictures, and the queries about them, from a folder of pictures and a csv."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "make a corpus, and queries, of a folder of pictures with a csv about them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="the pictures")
    parser.add_argument(
        "table",
        metavar="TABLE.csv",
        help="columns image (a file in FOLDER), id, title, text or caption; question, query_id, instruction, answers, positives",
    )
    parser.add_argument("--corpus", required=True, type=Path, metavar="OUT.jsonl")
    parser.add_argument("--queries", type=Path, metavar="OUT.jsonl", help="write the rows' questions there")
    parser.add_argument(
        "--questions",
        choices=("find", "about"),
        default="find",
        help="questions look for their row's picture (default), or are asked about it",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.data.picture_table import read_picture_table
    from gemkr.data.query_lines import as_lines
    from gemkr.errors import DataError
    from gemkr.files import write_atomically
    from gemkr.vision.pictures import PictureFolder

    for output in filter(None, (args.corpus, args.queries)):
        require_writable(output, args.table)
    if args.queries is not None and args.queries.resolve() == args.corpus.resolve():
        raise DataError(f"--corpus and --queries are the same file {args.corpus}; name two")
    found = read_picture_table(args.table, args.questions)
    if args.queries is not None and not found.queries:
        raise DataError(
            f"no row of {args.table} has a question; add a column 'question', or leave --queries out"
        )
    pictures = PictureFolder(args.folder, "take its row out of the csv")
    for image, where in found.pictures.items():
        if image not in pictures:
            raise DataError(
                f"{where}: the picture {image!r} is not in {args.folder}; put it there, or delete the row"
            )
    rows = [
        {"id": doc.doc_id, "title": doc.title, "text": doc.text, "image": doc.image}
        for doc in found.documents.values()
    ]
    lines = (
        json.dumps({key: value for key, value in row.items() if value}, ensure_ascii=False) for row in rows
    )
    write_atomically(args.corpus, "".join(f"{line}\n" for line in lines))
    print(f"{args.corpus}: {len(rows):,} documents")
    if args.queries is not None:
        write_atomically(args.queries, as_lines(found.queries))
        print(f"{args.queries}: {len(found.queries):,} queries")
    return 0
