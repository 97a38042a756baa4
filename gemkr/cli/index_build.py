"""`gemkr index build`: an FM-index from a corpus, what it will take, and its figures."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemkr.cli.numbers import natural, positive, positive_number
from gemkr.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from gemkr.data.corpus import BadRows
    from gemkr.text.tokenizer import Tokenizer

SHOWN_BAD_ROWS = 20


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus", type=Path, help="csv (kid,text), jsonl (BEIR) or tsv (DPR, KILT, MS MARCO), plain or .gz"
    )
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="sentencepiece .model or Hugging Face folder"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the index file, usually *.fmi")
    parser.add_argument(
        "--sample-rate", type=positive, default=32, help="suffix array sampling for locate (default 32)"
    )
    parser.add_argument(
        "--document-array",
        action="store_true",
        help="store the document of every row: larger file, quicker lookup",
    )
    parser.add_argument(
        "--threads", type=natural, default=0, help="processes and threads; 0 means all cores (default)"
    )
    parser.add_argument(
        "--memory-limit",
        type=positive_number,
        metavar="GB",
        help="keep the whole command within this memory: text waits in temporary files beside the output, and is sorted in "
        "blocks that are merged where need be",
    )
    parser.add_argument(
        "--keep-white-space",
        action="store_true",
        help="index texts as they are written: runs of white space and decomposed letters stay",
    )
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="list bad rows instead of stopping at the first"
    )


def build_index(args: argparse.Namespace) -> int:
    """Tokenize, build, save, and print the figures."""
    from gemkr.cli.output import bytes_text, peak_memory, require_writable
    from gemkr.data.corpus import BadRows
    from gemkr.fm_index import FMIndex
    from gemkr.fm_index.plan import memory_left
    from gemkr.progress import progress_bar
    from gemkr.text.tokenizer import load_tokenizer

    output = require_writable(args.output, args.corpus, args.tokenizer)
    replaced = _replaced(output)
    tokenizer = load_tokenizer(args.tokenizer, keep_white_space=args.keep_white_space)
    bad = BadRows() if args.skip_bad_rows else None
    limit = None if args.memory_limit is None else memory_left(int(args.memory_limit * 1e9))
    began = time.perf_counter()
    tokenized = began
    with progress_bar(total=1.0, bar_format="building: {percentage:3.0f}%|{bar}| {elapsed}{postfix}") as bar:

        def plan(expected: dict[str, Any]) -> None:
            nonlocal tokenized
            tokenized = time.perf_counter()
            print(_expectation(expected, output.parent), file=sys.stderr)

        def show(stage: str, share: float) -> None:
            bar.update(share - bar.n)
            if bar.postfix != stage:  # a log reports every stage once
                bar.set_postfix_str(stage)

        index = FMIndex.build_parts(
            _parts(args, tokenizer, bad, limit),
            tokenizer=tokenizer,
            sample_rate=args.sample_rate,
            document_array=args.document_array,
            threads=args.threads,
            progress=show,
            memory_limit=limit,
            work_folder=output.parent,
            planned=plan,
        )
    built = time.perf_counter()
    if replaced is not None and replaced != index.corpus_hash:
        print(
            f"another index stood in {output} and is replaced; runs and clues made with it do not belong to this one",
            file=sys.stderr,
        )
    index.save(output)
    saved = time.perf_counter()
    size = output.stat().st_size
    if bad is not None:
        _list_bad_rows(bad)
        print(f"skipped rows   {len(bad):,}")
    print(f"documents      {len(index):,}")
    print(f"tokens         {index.n_tokens:,}")
    print(f"tokenize       {tokenized - began:.1f} s")
    print(f"build          {built - tokenized:.1f} s")
    print(f"save           {saved - built:.1f} s")
    print(f"file           {output} {bytes_text(size)}")
    print(f"bits per token {8 * size / max(index.n_tokens, 1):.2f}")
    print(f"peak memory    {bytes_text(peak_memory())}")
    return 0


def _parts(
    args: argparse.Namespace, tokenizer: Tokenizer, bad: BadRows | None, limit: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """The tokenized corpus part by part. Under a memory limit ids are told apart by the index alone, unless bad rows are skipped."""
    from gemkr.data.corpus import read_corpus
    from gemkr.progress import progress_bar
    from gemkr.text.tokenization import tokenized_parts
    from gemkr.text.word_tokens import REMEMBERED_BYTES

    documents = read_corpus(
        args.corpus,
        skip_bad_rows=bad,
        way_out="correct the row or skip bad rows (--skip-bad-rows)",
        check_distinct=limit is None or bad is not None,
    )
    remembered = REMEMBERED_BYTES if limit is None else min(REMEMBERED_BYTES, limit // 8)
    with progress_bar(desc="tokenizing", unit=" documents") as bar:
        for part in tokenized_parts(
            documents, tokenizer, processes=args.threads, remembered_bytes=remembered
        ):
            yield part.tokens, part.counts, part.doc_ids
            bar.update(len(part.doc_ids))


def _replaced(output: Path) -> str | None:
    """The corpus hash of the index that a build replaces, None where there is none; DataError for a file that is no index."""
    from gemkr.fm_index import FMIndex
    from gemkr.fm_index.errors import IndexCorruptError, IndexFormatError

    if not output.exists():
        return None
    try:
        return FMIndex.load(output).corpus_hash
    except IndexCorruptError:
        return None
    except IndexFormatError as error:
        raise DataError(
            f"the output {output} holds no whole index of this version and would be replaced; choose another with -o, or delete it"
        ) from error


def _expectation(expected: dict[str, Any], folder: Path) -> str:
    """The sentence that is printed before a build."""
    from gemkr.cli.output import bytes_text

    blocks = ""
    if expected["blocks"] > 1:
        files = bytes_text(expected["temporary_bytes"])
        blocks = f" in about {expected['blocks']} blocks, {files} of temporary files in {folder}"
    return (
        f"the build will take about {bytes_text(expected['peak_bytes'])} of memory{blocks}, {expected['seconds']:.0f} s, "
        f"and {bytes_text(expected['file_bytes'])} on disk; at least {bytes_text(expected['least_bytes'])} of memory"
    )


def _list_bad_rows(bad: BadRows) -> None:
    for row in bad.rows[:SHOWN_BAD_ROWS]:
        print(f"skipped {row}", file=sys.stderr)
    if len(bad) > SHOWN_BAD_ROWS:
        print(f"skipped {len(bad) - SHOWN_BAD_ROWS:,} more rows", file=sys.stderr)
