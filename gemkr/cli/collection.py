"""`gemkr collection`: make, change, compact, describe and check a corpus that changes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import natural, positive, positive_number
from gemkr.errors import DataError

if TYPE_CHECKING:
    from gemkr.collection.collection import Collection
    from gemkr.collection.sharded import ShardedCollection
    from gemkr.types import Document

HELP = "a corpus that changes while it is searched: add, delete, update and compact its documents"
CORPUS = "csv (kid,text), jsonl (BEIR) or tsv (DPR, KILT, MS MARCO), plain or .gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = _action(actions, "create", "make a collection", _create)
    create.add_argument("corpus", type=Path, nargs="?", help=f"its first documents: {CORPUS}; none: empty")
    create.add_argument(
        "--tokenizer", type=Path, required=True, help="sentencepiece .model or Hugging Face folder"
    )
    create.add_argument(
        "--keep-white-space", action="store_true", help="index texts as they are written, not normalized"
    )
    create.add_argument(
        "--shards",
        type=positive,
        metavar="N",
        help="deal the documents over N collections, searched by a process each",
    )
    create.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="build each shard as a task of this Ray cluster (HOST:PORT, ray://HOST:PORT, auto or local), whose machines see the folder; "
        "--threads are then the cores of a task (0: one), and --memory-limit is that of each",
    )
    add = _action(actions, "add", "append documents with new ids", _add)
    update = _action(actions, "update", "append documents in place of those with their ids", _update)
    for action in (add, update):
        action.add_argument("corpus", type=Path, help=CORPUS)
        action.add_argument(
            "--tokenizer", type=Path, help="where the collection's tokenizer is, if it was moved"
        )
    delete = _action(actions, "delete", "delete documents", _delete)
    delete.add_argument(
        "ids", nargs="*", metavar="ID", help="document ids; after -- where one begins with a dash"
    )
    delete.add_argument(
        "--from", dest="file", type=Path, help="a file of ids, one a line; - is standard input"
    )
    delete.add_argument("--ignore-missing", action="store_true", help="pass over ids that are not there")
    compact = _action(actions, "compact", "merge all segments into one without deleted documents", _compact)
    compact.add_argument(
        "--tiered",
        action="store_true",
        help="only segments of like size and those with many deletions, for cron",
    )
    for action in (create, add, update, compact):
        action.add_argument(
            "--memory-limit",
            type=positive_number,
            metavar="GB",
            help="keep the whole command within this memory, with temporary files in the collection where need be",
        )
    for action in (create, add, update):
        action.add_argument(
            "--threads", type=natural, default=0, help="processes that tokenize; 0 means all cores (default)"
        )
    _action(actions, "info", "print what a collection is made of", _info)
    _action(actions, "verify", "read all files and compare the checksums", _verify)


def _action(actions, name: str, text: str, act) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text)
    parser.add_argument("folder", type=Path, help="the collection")
    parser.set_defaults(act=act)
    return parser


def run(args: argparse.Namespace) -> int:
    return args.act(args)


def _create(args: argparse.Namespace) -> int:
    from gemkr.collection.collection import Collection
    from gemkr.collection.sharded import ShardedCollection
    from gemkr.config.shards import HERE, RAY, ShardsConfig

    began = time.perf_counter()
    settings = {
        "tokenizer": args.tokenizer,
        "documents": _documents(args),
        "keep_white_space": args.keep_white_space,
        "memory_limit": _limit(args),
        "processes": args.threads,
    }
    collection: Collection | ShardedCollection
    if args.shards is None and args.ray is not None:
        raise DataError(f"--ray {args.ray} builds shards, but there are none; say how many with --shards")
    if args.shards is None:
        collection = Collection.create(args.folder, **settings)
    else:
        built_by = HERE if args.ray is None else ShardsConfig(RAY, args.ray)
        collection = ShardedCollection.create(args.folder, args.shards, built_by=built_by, **settings)
    return _report(collection, began)


def _add(args: argparse.Namespace) -> int:
    began, collection = time.perf_counter(), _open(args)
    collection.add(_documents(args), memory_limit=_limit(args), processes=args.threads)
    return _report(collection, began)


def _update(args: argparse.Namespace) -> int:
    began, collection = time.perf_counter(), _open(args)
    collection.update(_documents(args), memory_limit=_limit(args), processes=args.threads)
    return _report(collection, began)


def _delete(args: argparse.Namespace) -> int:
    if not args.ids and args.file is None:
        raise DataError(
            "no document id is given; name ids after the collection, or a file of them with --from"
        )
    began, collection = time.perf_counter(), _open(args)
    collection.delete([*args.ids, *_ids(args.file)], ignore_missing=args.ignore_missing)
    return _report(collection, began)


def _compact(args: argparse.Namespace) -> int:
    began, collection = time.perf_counter(), _open(args)
    collection.compact(_limit(args), tiered=args.tiered)
    return _report(collection, began)


def _info(args: argparse.Namespace) -> int:
    for name, value in _open(args).info().items():
        print(f"{name:<22} {value:,}" if type(value) is int else f"{name:<22} {value}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    began, collection = time.perf_counter(), _open(args)
    collection.verify()
    seconds = time.perf_counter() - began
    print(f"{args.folder}: all checksums agree ({len(collection):,} documents, {seconds:.1f} s)")
    return 0


def _open(args: argparse.Namespace) -> Collection | ShardedCollection:
    from gemkr.collection.opening import open_collection

    return open_collection(args.folder, tokenizer=getattr(args, "tokenizer", None))


def _documents(args: argparse.Namespace) -> Iterator[Document]:
    """Under a memory limit ids are told apart by the collection alone."""
    from gemkr.data.corpus import read_corpus
    from gemkr.progress import progress_bar

    if args.corpus is not None:  # the bar appears with the first document, not before a refusal
        documents = read_corpus(args.corpus, check_distinct=args.memory_limit is None)
        yield from progress_bar(documents, desc="reading", unit=" documents")


def _ids(file: Path | None) -> list[str]:
    """The ids of a file, one a line; DataError for a file that cannot be read."""
    if file is None:
        return []
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the ids in {file} cannot be read ({error}); give a text file, one id a line"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _limit(args: argparse.Namespace) -> int | None:
    return None if args.memory_limit is None else int(args.memory_limit * 1e9)


def _report(collection: Collection | ShardedCollection, began: float) -> int:
    """What a change left."""
    info = collection.info()
    print(f"generation     {info['generation']:,}")
    print(f"documents      {info['documents']:,}")
    print(f"segments       {info['segments']:,} and {info['negative segments']:,} negative")
    if collection.due:
        print("merge          due; gemkr collection compact --tiered does it, and no writer waits for it")
    print(f"seconds        {time.perf_counter() - began:.1f}")
    return 0
