"""`gemkr score RUN`: metrics of a run, from qrels or from answers in the documents; two runs compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.cli.numbers import natural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gemkr.evaluation.metrics import Metric
    from gemkr.types import Run

HELP = "score a run against qrels or answers, and compare two runs"
METRICS = ("P@5", "S@1", "S@5", "S@10", "MRR@10", "D@10")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_file",
        metavar="RUN",
        help="a run of TREC, UniIR or MS MARCO, run.jsonl, the GeMKR authors' .json (a list of lists of ids), a result of LamRA "
        "(any of its three .json, or a reranker's beside them), VLM2Vec's _pred.jsonl, UniIR's _retrieved.jsonl, or FLMR's report",
    )
    parser.add_argument(
        "qrels",
        metavar="QRELS",
        nargs="?",
        help="qrels of TREC, BEIR, MS MARCO or M-BEIR; without them answers are looked for",
    )
    parser.add_argument(
        "--queries", help="queries with answers (or positives); also the order of a .json or _pred.jsonl run"
    )
    parser.add_argument("--corpus", help="the documents of the run, to look for answers in")
    parser.add_argument("--match", help="exact (as in the paper), lower, or word (the default)")
    parser.add_argument(
        "--metrics", nargs="+", default=list(METRICS), metavar="M", help=f"default: {' '.join(METRICS)}"
    )
    parser.add_argument("--compare", metavar="RUN2", help="a second run; paired tests of RUN against it")
    parser.add_argument(
        "--ties",
        choices=("doc_id", "file"),
        default="doc_id",
        help="order of equal scores: by descending document id as trec_eval does (default), or as in the file",
    )
    parser.add_argument(
        "--json", metavar="OUT", help="write means, intervals, tests and per-query values there"
    )
    parser.add_argument("--seed", type=natural, default=0, help="of the bootstrap and the tests (default 0)")


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from gemkr.cli.output import require_writable
    from gemkr.data.queries import read_queries
    from gemkr.data.runs import is_ranked, load_run
    from gemkr.errors import DataError
    from gemkr.evaluation.metrics import parse_metrics
    from gemkr.evaluation.relevance import make_relevance
    from gemkr.evaluation.report.table import text_comparison, text_table
    from gemkr.evaluation.significance import paired_test
    from gemkr.files import write_atomically

    metrics = parse_metrics([name for word in args.metrics for name in word.split(",") if name])
    inputs = (args.run_file, args.qrels, args.compare, args.queries, args.corpus)
    output = require_writable(args.json, *inputs) if args.json is not None else None
    if args.compare and Path(args.compare).resolve() == Path(args.run_file).resolve():
        raise DataError(
            f"{args.compare} is the run itself, which does not differ from itself; name another run to compare with"
        )
    queries = list(read_queries(args.queries)) if args.queries else []
    files = [args.run_file, *([args.compare] if args.compare else [])]
    runs = {_label(file, files): load_run(file, queries, args.ties) for file in files}
    contents = _contents(args.corpus, runs.values()) if args.corpus else None
    relevance = make_relevance(
        metrics, qrels=args.qrels, queries=queries, contents=contents, match=args.match
    )

    rows = {label: relevance.score(hits, seed=args.seed) for label, hits in runs.items()}
    print(text_table(rows))
    tests = {}
    if args.compare:
        (ours, a), (theirs, b) = rows.items()
        tests = {name: paired_test(b.values[name], a.values[name], seed=args.seed) for name in a.values}
        print()
        print(text_comparison(tests, ours, theirs))
    print(f"\n{relevance.describe}")
    for label, scores in rows.items():
        if scores.missing:
            print(
                f"{label} lacks {len(scores.missing):,} of {len(scores.query_ids):,} queries; they count as 0"
            )
    ties = {}
    for file, (label, hits) in zip(files, runs.items(), strict=True):
        ties[label] = {} if is_ranked(file) else _ties(hits, rows[label].query_ids, metrics)
        if ties[label]:
            print(_tied(label, ties[label], args.ties))
    if output:
        result = {
            "relevance": relevance.describe,
            "rows": {label: scores.summary() for label, scores in rows.items()},
            "tests": {name: asdict(test) for name, test in tests.items()},
            "ties": ties,
            "queries": {label: scores.per_query() for label, scores in rows.items()},
        }
        write_atomically(output, json.dumps(result, indent=1) + "\n")
    return 0


def _ties(run: Run, query_ids: Sequence[str], metrics: Sequence[Metric]) -> dict[str, int]:
    """Cut-off -> how many queries have equal scores across it, for cut-offs of `metrics` where there are any."""
    from gemkr.data.ties import ties_across

    counts = {k: ties_across(run, query_ids, k) for k in sorted({metric.k for metric in metrics})}
    return {str(k): count for k, count in counts.items() if count}


def _tied(label: str, counts: dict[str, int], ties: str) -> str:
    where = ", ".join(f"at {k} in {count:,} queries" for k, count in counts.items())
    order = (
        "the order of the file"
        if ties == "file"
        else "descending document id as in trec_eval; --ties file keeps the order of the file"
    )
    return f"{label}: equal scores stand across a cut-off ({where}) and are ranked by {order}"


def _contents(corpus: str, runs: Iterable[Run]) -> Callable[[str], str]:
    """doc_id -> text of the documents that the runs name; reads the corpus once, skipping bad rows, and keeps no others."""
    from gemkr.data.corpus import BadRows, read_corpus
    from gemkr.errors import DataError

    wanted = {hit.doc_id for run in runs for hits in run.values() for hit in hits}
    documents = read_corpus(corpus, skip_bad_rows=BadRows())
    texts = {doc.doc_id: doc.contents for doc in documents if doc.doc_id in wanted}
    if len(texts) < len(wanted):
        absent = next(iter(wanted - texts.keys()))
        raise DataError(
            f"{corpus} lacks {len(wanted) - len(texts)} of the {len(wanted)} documents of the run, such as {absent!r}; "
            "give the corpus that the run was made with"
        )
    return texts.__getitem__


def _label(path: str, paths: list[str]) -> str:
    """The shortest end of a path that distinguishes it from the other run's."""
    parts = Path(path).parts
    for length in range(1, len(parts) + 1):
        label = str(Path(*parts[-length:]))
        if all(other is path or not other.endswith(label) for other in paths):
            return label
    return path
