"""`gemkr index build|info|verify|query`: a look inside an FM-index; `index_build` makes one."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.index_build import add_build_arguments, build_index
from gemkr.cli.index_file import load_index
from gemkr.cli.numbers import natural
from gemkr.errors import DataError

if TYPE_CHECKING:
    from gemkr.data.documents import DocumentStore
    from gemkr.fm_index import FMIndex
    from gemkr.text.tokenizer import Tokenizer

HELP = "build, describe, verify and query an FM-index"
INDEX = "an index file, from `gemkr index build`"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build an index from a corpus")
    add_build_arguments(build)
    build.set_defaults(act=build_index)

    info = actions.add_parser("info", help="print what the header of an index says")
    info.add_argument("index", type=Path, help=INDEX)
    info.set_defaults(act=_info)

    verify = actions.add_parser("verify", help="read the whole index and check every checksum")
    verify.add_argument("index", type=Path, help=INDEX)
    verify.set_defaults(act=_verify)

    query = actions.add_parser("query", help="count a text, list what may follow it and where it occurs")
    query.add_argument("index", type=Path, help=INDEX)
    query.add_argument("text", help="as it stands in the documents, white space aside")
    query.add_argument(
        "--tokenizer", type=Path, required=True, help="the tokenizer that the index was built with"
    )
    query.add_argument("--corpus", type=Path, help="show snippets of the documents from this corpus")
    query.add_argument("--limit", type=natural, default=10, help="rows of each list (default 10)")
    query.set_defaults(act=_query)


def run(args: argparse.Namespace) -> int:
    return args.act(args)


def _info(args: argparse.Namespace) -> int:
    index = load_index(args.index, "gemkr collection info describes it")
    info = index.info()
    sections = info.pop("sections")
    for name, value in info.items():
        print(f"{name:<22} {value:,}" if type(value) is int else f"{name:<22} {value}")
    for name, size in sections.items():
        print(f"section {name:<14} {size:>15,} bytes")
    return 0


def _verify(args: argparse.Namespace) -> int:
    began = time.perf_counter()
    index = load_index(args.index, "gemkr collection verify checks it")
    index.verify()
    print(
        f"{args.index}: all checksums agree ({len(index):,} documents, {time.perf_counter() - began:.1f} s)"
    )
    return 0


def _query(args: argparse.Namespace) -> int:
    from gemkr.data.documents import DocumentStore
    from gemkr.text.index_tokenizer import require_same_texts, tokenizer_of
    from gemkr.text.tokenizer import load_tokenizer

    index = load_index(args.index, "gemkr ask searches it")
    tokenizer = tokenizer_of(index, load_tokenizer(args.tokenizer))
    store = (
        None
        if args.corpus is None
        else DocumentStore.open_indexed(args.corpus, index.doc_ids, index=args.index)
    )
    if store is not None:
        require_same_texts(index, store.contents, tokenizer)
    tokens = tokenizer.encode(args.text)
    span = index.search(tokens)
    print(f"tokens       {' '.join(tokenizer.piece(t) for t in tokens)}")
    print(f"occurrences  {span.count:,}")
    if not span:
        return 0
    following, counts = index.next_tokens(span)
    best = counts.argsort(kind="stable")[::-1][: args.limit]
    print(f"next tokens  {len(following):,} different; ends {index.count_ends(span):,} documents")
    for i in best:
        print(f"  {counts[i]:>9,}  {tokenizer.piece(following[i])}")
    docs, occurrences = index.documents(span, limit=args.limit)
    print(f"documents    (at most {args.limit}, most occurrences first)")
    for doc, times in zip(docs.tolist(), occurrences.tolist()):
        snippet = "" if store is None else "  " + _snippet(index, store, tokenizer, doc, tokens)
        print(f"  {times:>9,}  {index.doc_ids[doc]}{snippet}")
    return 0


def _snippet(
    index: FMIndex, store: DocumentStore, tokenizer: Tokenizer, doc: int, tokens: list[int], around: int = 50
) -> str:
    """The first place of the tokens in a document, in brackets, between `around` characters on either side."""
    text = store.contents(doc)
    ids, starts = tokenizer.encode_with_offsets(text)
    size = len(tokens)
    at = next((i for i in range(len(ids) - size + 1) if ids[i : i + size] == tokens), None)
    if at is None:
        raise DataError(
            f"document {index.doc_ids[doc]!r} of the corpus does not hold the tokens that the index found in it; use the "
            "corpus that the index was built from"
        )
    lo, hi = int(starts[at]), int(starts[at + size])
    lo += len(text[lo:hi]) - len(text[lo:hi].lstrip())
    hi -= len(text[lo:hi]) - len(text[lo:hi].rstrip())
    before, after = text[max(lo - around, 0) : lo], text[hi : hi + around]
    return " ".join(f"{before}[{text[lo:hi]}]{after}".split())
