"""`gemkr mine`: training clues for queries with answers, from a corpus and its index, or from a collection."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from gemkr.cli.numbers import natural, positive
from gemkr.decoding.config import DecodingConfig
from gemkr.errors import DataError

HELP = "mine training clues: slices of real passages that answer a question"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "queries", type=Path, help="jsonl with query_id, question, caption, answers[, positives]"
    )
    parser.add_argument(
        "--corpus", type=Path, required=True, help="the corpus that the index was built from, or a collection"
    )
    parser.add_argument(
        "--index", type=Path, help="an index file, from `gemkr index build`; a collection needs none"
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="the tokenizer that the index was built with; a collection's needs a name only where it was moved",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the clue file, *.jsonl")
    parser.add_argument(
        "--forms", default="short,long", help="short (the answer alone), long (unique), or short,long"
    )
    parser.add_argument("--per-question", type=positive, default=4, help="passages per question (default 4)")
    parser.add_argument(
        "--max-tokens",
        type=positive,
        default=DecodingConfig.max_tokens,
        help=f"longest clue (default {DecodingConfig.max_tokens}, as decoding.max_tokens): decoding has to reach its end",
    )
    parser.add_argument(
        "--anchor",
        choices=("answer", "opening", "question"),
        default="answer",
        help="long clues begin with the answer, or are the opening of the passage that holds it; question: clues are what "
        "the question quotes of its gold passages",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="long clues of --max-tokens, as in the paper; else as short as unique",
    )
    parser.add_argument(
        "--threads", type=natural, default=0, help="processes that mine; 0 means all cores (default)"
    )
    parser.add_argument("--limit", type=positive, help="only the first so many queries")
    parser.add_argument("--sample", type=natural, default=0, metavar="N", help="print N clues to look at")


def run(args: argparse.Namespace) -> int:
    from itertools import islice

    from gemkr.cli.output import require_writable
    from gemkr.data.clues import read_clues, write_clues
    from gemkr.data.queries import read_queries
    from gemkr.progress import progress_bar
    from gemkr.scorers.bm25 import BM25
    from gemkr.training.mining.material import mining_material
    from gemkr.training.mining.mine import Miner, MiningSettings
    from gemkr.training.mining.statistics import MiningStatistics, mine_all

    settings = MiningSettings(
        forms=tuple(form.strip() for form in args.forms.split(",")),
        per_question=args.per_question,
        max_tokens=args.max_tokens,
        anchor=args.anchor,
        full=args.full,
    )
    output = require_writable(args.output, args.queries, args.corpus, args.index, args.tokenizer)
    began = time.perf_counter()
    queries = list(islice(read_queries(args.queries), args.limit))
    if not any(query.answers or query.positives for query in queries):
        raise DataError(
            f"none of the {len(queries):,} queries of {args.queries} has answers or positives; mining needs the key "
            "'answers'"
        )
    if args.anchor == "question" and not any(query.positives for query in queries):
        raise DataError(
            f"none of the {len(queries):,} queries of {args.queries} has a gold passage to quote; --anchor question needs the "
            "key 'positives', use --anchor answer"
        )
    index, documents, tokenizer = mining_material(args.corpus, args.index, args.tokenizer)
    miner = Miner(index, documents, tokenizer, BM25(documents), settings)
    ready = time.perf_counter()
    statistics = MiningStatistics()
    with progress_bar(total=len(queries), desc="mining", unit=" queries") as bar:
        clues = mine_all(miner, queries, statistics, processes=args.threads, done=bar.update)
        written = write_clues(output, clues)
    print(f"clues              {written:>9,}  {output}")
    for line in statistics.lines():
        print(line)
    print(f"seconds            {time.perf_counter() - ready:>9.1f}  after {ready - began:.1f} s of loading")
    if args.sample and written:
        questions = {query.query_id: query.question for query in queries}
        chosen = set(random.Random(0).sample(range(written), min(args.sample, written)))
        for number, clue in enumerate(read_clues(output)):
            if number in chosen:
                print(
                    f"{clue.form:<5} x{clue.count:<6} {questions[clue.query_id]!r} {clue.answer!r} -> {clue.text!r} ({clue.doc_id})"
                )
    return 0
