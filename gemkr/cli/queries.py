"""`gemkr queries FILE`: one jsonl of queries from the files that OK-VQA, COCO, M-BEIR, MMEB and SimCSE publish, or a part of other
queries."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemkr.data.mbeir import Placed
    from gemkr.types import Document, Query

HELP = (
    "make one query file of OK-VQA's, M-BEIR's or MMEB's questions, answers, captions, instructions and pools"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from gemkr.data.okvqa import COCO_2014_NAMES

    parser.add_argument(
        "file",
        metavar="FILE",
        help="OK-VQA's question file, a set of MMEB, SimCSE's nli_for_simcse.csv, or any file of queries",
    )
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
    parser.add_argument("--qrels", help="the gold documents of the queries")
    parser.add_argument("--pool", help="the name of the pool that answers the queries")
    parser.add_argument("--candidates", help="the documents that answer: gold ones must be among them")
    parser.add_argument(
        "--candidate-images", metavar="FOLDER", help="the pictures of --candidates must be in this folder"
    )
    parser.add_argument("--instructions", help="M-BEIR's query_instructions.tsv")
    parser.add_argument(
        "--instruction",
        default="first",
        metavar="CHOICE",
        help="none, first (default), index:I or random:SEED of the prompts for a query",
    )
    parser.add_argument(
        "--target",
        choices=("text", "image", "image,text"),
        help="what all queries look for, to choose instructions (default: that of each one's first gold document)",
    )
    parser.add_argument(
        "--name",
        metavar="SET",
        help="the name of MMEB's set, or of an NLI file, with which query ids begin (default: the file's up to its first dot)",
    )
    parser.add_argument(
        "--corpus", metavar="OUT.jsonl", help="write the documents of MMEB's set, or of an NLI file, there"
    )
    parser.add_argument(
        "--pools", metavar="OUT.jsonl", help="write the lists of candidates of MMEB's evaluation set there"
    )
    parser.add_argument(
        "--negatives",
        metavar="OUT.trec",
        help="write the hard negatives of a training file (MMEB's, M-BEIR's, NLI) there, as a run",
    )


def run(args: argparse.Namespace) -> int:
    from gemkr.cli.output import require_writable
    from gemkr.data.okvqa import read_captions
    from gemkr.data.query_lines import as_lines
    from gemkr.errors import DataError
    from gemkr.files import write_atomically

    inputs = (args.file, args.annotations, args.captions, args.qrels, args.candidates, args.instructions)
    output = require_writable(args.output, *inputs)
    wanted = [path for path in (args.corpus, args.pools, args.negatives) if path]
    outputs = [require_writable(path, *inputs, output) for path in wanted]
    if len(set(outputs)) < len(outputs):
        raise DataError(f"two of --corpus, --pools and --negatives are {wanted[-1]}; name a file for each")
    placed = _with_mbeir(args, _placed(args))
    read = [query for _, query in placed]
    if args.captions:
        read = list(_with_captions(read, read_captions(args.captions)))
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
    if any(q.instruction or q.positives for q in kept):
        print(
            f"with instructions {sum(bool(q.instruction) for q in kept):,}, with gold documents "
            f"{sum(bool(q.positives) for q in kept):,}"
        )
    for path in (output, *outputs):
        print(path)
    return 0


def _placed(args: argparse.Namespace) -> list[Placed]:
    from gemkr.data.mbeir import has_negatives
    from gemkr.data.mmeb import is_mmeb, read_mmeb
    from gemkr.data.mmeb_training import is_mmeb_training, read_mmeb_training
    from gemkr.data.nli_training import is_nli_training, read_nli_training
    from gemkr.data.okvqa import COCO_2014_NAMES
    from gemkr.data.queries import placed_queries, read_okvqa
    from gemkr.data.text_files import id_fault
    from gemkr.errors import ConfigError

    evaluated, pairs, listed = is_mmeb(args.file), is_mmeb_training(args.file), has_negatives(args.file)
    sentences = is_nli_training(args.file)
    learned = pairs or sentences
    if (
        (args.pools and not evaluated)
        or (args.negatives and not (learned or listed))
        or ((args.corpus or args.name) and not (evaluated or learned))
    ):
        raise ConfigError(
            f"--name, --corpus, --pools (evaluation) and --negatives (training, M-BEIR's too) are for MMEB's sets and SimCSE's NLI pairs, and "
            f"{args.file} is none of their kind; leave them out"
        )
    if args.name is not None and (fault := id_fault(args.name, "data set's")) is not None:
        raise ConfigError(f"{fault}; give another --name")
    if evaluated:
        found = read_mmeb(args.file, args.name)
        pools = [{"pool": name, "doc_ids": ids} for name, ids in found.pools.items()]
        return _with_documents(args, found.queries, found.documents, pools, "")
    if learned:
        training = (read_mmeb_training if pairs else read_nli_training)(args.file, args.name)
        return _with_documents(args, training.queries, training.documents, [], training.run_lines())
    if args.annotations or args.picture_names != COCO_2014_NAMES:
        queries = read_okvqa(args.file, args.annotations, names=args.picture_names)
        return [(args.file, query) for query in queries]
    return list(placed_queries(args.file))


def _with_documents(
    args: argparse.Namespace,
    queries: list[Query],
    documents: dict[str, Document],
    pools: list[dict[str, object]],
    negatives: str,
) -> list[Placed]:
    """The queries of a file that holds documents too; these, pools and hard negatives are written where they are wanted."""
    import dataclasses
    import json

    from gemkr.files import write_atomically

    rows = (
        {key: value for key, value in dataclasses.asdict(document).items() if value}
        for document in documents.values()
    )
    for path, objects in ((args.corpus, rows), (args.pools, pools)):
        if path:
            lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in objects)
            write_atomically(path, "".join(lines))
    if args.negatives:
        write_atomically(args.negatives, negatives)
    return [(args.file, query) for query in queries]


def _with_mbeir(args: argparse.Namespace, placed: list[Placed]) -> list[Placed]:
    """The queries with gold documents, pool and instructions as the arguments say; each of them checked."""
    from gemkr.data import mbeir
    from gemkr.data.training_pairs import run_lines
    from gemkr.errors import ConfigError
    from gemkr.files import write_atomically

    provider = mbeir.InstructionProvider(args.instructions, args.instruction) if args.instructions else None
    if provider and not (args.candidates or args.target or args.instruction == "none"):
        raise ConfigError(
            "instructions depend on what a query looks for; give the documents with --candidates, or --target"
        )
    judged: dict[str, str] = {}
    negatives: dict[str, tuple[str, ...]] = {}
    if args.negatives and mbeir.has_negatives(args.file):
        negatives = mbeir.negatives_of(args.file, placed)
    if args.qrels:
        placed, judged = mbeir.with_gold(placed, args.qrels)
    targets: dict[str, str] = {}
    if args.candidates:
        gold = {doc_id: where for where, query in placed for doc_id in query.positives}
        kept_away = {doc_id: w for w, query in placed for doc_id in negatives.get(query.query_id, ())}
        targets = mbeir.modalities_of(kept_away | gold | judged, args.candidates)
    if args.candidate_images:
        _require_pictures(args)
    if args.pool:
        placed = [(where, replace(query, pool=args.pool)) for where, query in placed]
    if provider:
        placed = list(mbeir.with_instructions(placed, provider, targets, args.target))
    if negatives:
        write_atomically(args.negatives, run_lines(negatives))
    return placed


def _require_pictures(args: argparse.Namespace) -> None:
    """DataError for the first candidate whose picture is not in the folder."""
    from gemkr.data.mbeir import placed_documents
    from gemkr.errors import ConfigError, DataError, VisionError
    from gemkr.vision.pictures import PictureFolder

    if not args.candidates:
        raise ConfigError("--candidate-images checks the pictures of --candidates; give both")
    pictures = PictureFolder(args.candidate_images, "take its candidate out")
    for where, document in placed_documents(args.candidates):
        try:
            if document.image is not None:
                pictures.path(document.image)
        except VisionError as error:
            raise DataError(f"{where}: document {document.doc_id!r}: {error}") from error


def _with_captions(queries: list[Query], captions: dict[int, str]) -> Iterator[Query]:
    """A query that has a caption keeps it."""
    from gemkr.data.okvqa import coco_number

    for query in queries:
        number = None if query.image is None else coco_number(query.image)
        yield query if query.caption or number is None else replace(query, caption=captions.get(number))


def _with_picture(queries: list[Query], folder: str) -> Iterator[Query]:
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
