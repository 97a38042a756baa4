"""What segments, deleted documents and changes cost: next to one index file, in one run; prints tables and writes json.

    python benchmarks/bench_collection.py CORPUS --tokenizer MODEL [-o out.json] [--open 100000 10000000]

`steps`: 640 states of 1 to 8 tokens, one thread, CPU time; the corpus as one file, in 1, 4 and 16 segments, and in 4 with a
tenth of the documents deleted, interleaved. `changes`: a collection of the corpus, documents added, deleted and compacted.
`open`: collections of so many short synthetic documents, opened in fresh processes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from index_measures import BATCH, TextSampler, spans

from gemkr.collection.collection import Collection
from gemkr.data.corpus import read_corpus
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.text.tokenization import TokenizedCorpus, tokenize_corpus
from gemkr.text.tokenizer import load_tokenizer
from gemkr.types import Document

LENGTHS = (1, 2, 3, 5, 8)
OPEN = """
import json, sys, time
from gemkr.collection.collection import Collection
def memory():
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("RssAnon"))
before = memory()
began = time.perf_counter()
collection = Collection.open(sys.argv[1])
size = len(collection.index), len(collection.documents)
opened = time.perf_counter() - began
last = collection.documents[size[1] - 1].doc_id
looked = time.perf_counter() - began - opened
began = time.perf_counter()
collection.documents.number(last)
print(json.dumps({"open_ms": 1e3 * opened, "first_document_ms": 1e3 * looked, "first_id_ms": 1e3 * (time.perf_counter() - began),
                  "memory_mb": (memory() - before) / 1e6, "documents": size[1]}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--open", type=int, nargs="*", default=[], metavar="N")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit", type=int, help="the first documents of the corpus only")
    parser.add_argument("--skip", nargs="*", default=[], choices=["steps", "changes"])
    parser.add_argument("--folder", type=Path, help="where collections are made (default: temporary files)")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    results: dict = {}
    documents = list(islice(read_corpus(args.corpus), args.limit))
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        if "steps" not in args.skip:
            results["steps"] = measure_steps(documents, args.tokenizer, args.rounds)
        if "changes" not in args.skip:
            results["changes"] = measure_changes(documents, args.tokenizer, folder)
        results["open"] = [measure_open(args.tokenizer, folder / str(n), n) for n in args.open]
    if args.output:
        args.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))
    return 0


def measure_steps(documents: list[Document], model: Path, rounds: int) -> dict:
    """CPU milliseconds of each step for each way to hold the corpus."""
    corpus = tokenize_corpus(documents, load_tokenizer(model))
    vocab = load_tokenizer(model).vocab_size
    gone = np.arange(3, len(corpus), 10)
    live = np.setdiff1d(np.arange(len(corpus)), gone)
    ways: dict[str, FMIndex | SegmentedIndex] = {"one file": build(corpus, np.arange(len(corpus)), vocab)}
    for segments in (1, 4, 16):
        ways[f"{segments} segments"] = segmented(corpus, vocab, segments, gone[:0])
    ways["live file"] = build(corpus, live, vocab)
    for segments in (1, 4):
        ways[f"{segments} segments, 1 negative"] = segmented(corpus, vocab, segments, gone)
    for index in ways.values():
        index.threads = 1
    offsets = np.concatenate([[0], np.cumsum(np.diff(corpus.offsets)[live])])
    tokens = np.concatenate([corpus.document(doc) for doc in live]).astype(np.int64)
    places = TextSampler(tokens, offsets)
    results: dict = {}
    for length in LENGTHS:
        states, follow = places.draw(length, BATCH)
        calls = {name: steps_of(index, states, follow) for name, index in ways.items()}
        agree(calls)
        found = {name: dict.fromkeys(steps, np.inf) for name, steps in calls.items()}
        for _ in range(rounds):
            for name, steps in calls.items():
                for step, call in steps.items():
                    began = time.process_time()
                    call()
                    found[name][step] = min(found[name][step], 1e3 * (time.process_time() - began))
        results[length] = found
    return results


def steps_of(index: FMIndex | SegmentedIndex, states: np.ndarray, follow: np.ndarray) -> dict[str, Callable]:
    lo, hi = spans(index, states)
    mask = np.zeros((len(lo), index.mask_words), np.uint32)

    def masks() -> np.ndarray:
        index.fill_mask(lo, hi, mask)
        return mask

    return {
        "mask": masks,
        "next_tokens": lambda: index.next_tokens_many(lo, hi),
        "extend": lambda: index.extend_many(lo, hi, follow),
    }


def agree(calls: dict[str, dict[str, Callable]]) -> None:
    """Segments without and with deleted documents answer as the file of the same documents."""
    for name, steps in calls.items():
        twin = calls["live file" if "negative" in name else "one file"]
        if name == "live file":
            continue
        np.testing.assert_array_equal(steps["mask"](), twin["mask"]())
        np.testing.assert_equal(steps["next_tokens"](), twin["next_tokens"]())
        ours, theirs = (np.subtract(*reversed(each["extend"]())) for each in (steps, twin))
        np.testing.assert_array_equal(ours, theirs)


def build(corpus: TokenizedCorpus, docs: np.ndarray, vocab: int) -> FMIndex:
    tokens = [corpus.document(doc) for doc in docs]
    offsets = np.cumsum([0, *map(len, tokens)])
    return FMIndex.build_flat(
        np.concatenate(tokens), offsets, [corpus.doc_ids[d] for d in docs], vocab_size=vocab
    )


def segmented(corpus: TokenizedCorpus, vocab: int, segments: int, gone: np.ndarray) -> SegmentedIndex:
    pieces = np.array_split(np.arange(len(corpus)), segments)
    positives = [build(corpus, piece, vocab) for piece in pieces]
    deleted = [np.intersect1d(piece, gone) - piece[0] for piece in pieces]
    negatives = [build(corpus, gone, vocab)] if len(gone) else []
    return SegmentedIndex(positives, deleted, negatives, [gone] if len(gone) else [])


def measure_changes(documents: list[Document], model: Path, folder: Path) -> dict:
    """Seconds of each change of a collection of the corpus, whose last 3,000 documents are added to the rest."""
    results: dict = {"documents": len(documents)}
    began = time.perf_counter()
    collection = Collection.create(folder / "changes", tokenizer=model, documents=documents[:-3000])
    results["create_s"] = time.perf_counter() - began
    for name, act in {
        "add_1000_s": [lambda i=i: collection.add(documents[-1000 * i :][:1000]) for i in (3, 2, 1)],
        "delete_1000_s": [
            lambda i=i: collection.delete([d.doc_id for d in documents[i::100][:1000]]) for i in range(3)
        ],
        "delete_1_s": [lambda i=i: collection.delete([documents[-i].doc_id]) for i in (1, 2, 3)],
        "add_1_s": [lambda i=i: collection.add([documents[-i]]) for i in (1, 2, 3)],
    }.items():
        results[name] = []
        for each in act:
            began = time.perf_counter()
            each()
            results[name].append(round(time.perf_counter() - began, 3))
    results["before_compaction"] = collection.info()
    tokens = collection.index.n_tokens
    began = time.perf_counter()
    collection.compact()
    results["compact_s"] = time.perf_counter() - began
    results["compact_mtok_s"] = tokens / results["compact_s"] / 1e6
    began = time.perf_counter()
    collection.verify()
    results["verify_s"] = time.perf_counter() - began
    return results


def measure_open(model: Path, folder: Path, count: int) -> dict:
    """The quickest of five openings, each in a fresh process."""

    def documents() -> Iterator[Document]:
        words = ["river", "honey", "tokyo", "giraffe", "garden", "seven", "north", "light", "stone", "paper"]
        rng = np.random.default_rng(1)
        for start in range(0, count, 10_000):
            for row, picks in enumerate(rng.integers(0, len(words), (min(10_000, count - start), 5))):
                yield Document(f"doc{start + row}", " ".join(words[pick] for pick in picks))

    began = time.perf_counter()
    Collection.create(folder, tokenizer=model, documents=documents(), processes=0)
    seconds = time.perf_counter() - began
    command = [sys.executable, "-c", OPEN, str(folder)]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5)]
    return min(runs, key=lambda run: run["open_ms"]) | {"create_s": seconds}


if __name__ == "__main__":
    sys.exit(main())
