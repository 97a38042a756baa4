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
from gemkr.collection.commit import changing
from gemkr.collection.manifest import OwnManifest
from gemkr.collection.segment_writer import IndexPart, SegmentWriter
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
    """The cost of each change of a collection of the corpus, whose last 3,000 documents are added to the rest."""
    made: list[Collection] = []
    place, first = folder / "changes", documents[:-3000]
    results: dict = {
        "documents": len(documents),
        "create": cost(lambda: made.append(Collection.create(place, tokenizer=model, documents=first))),
    }
    (collection,) = made
    _ = collection.tokenizer
    gone = [[document.doc_id for document in documents[i::100][:1000]] for i in range(3)]
    for name, acts in {
        "add 1,000": [lambda i=i: collection.add(documents[-1000 * i :][:1000]) for i in (3, 2, 1)],
        "delete 1,000": [lambda ids=ids: collection.delete(ids) for ids in gone],
        "delete 1": [lambda i=i: collection.delete([documents[-i].doc_id]) for i in (1, 2, 3)],
        "add 1": [lambda i=i: collection.add([documents[-i]]) for i in (1, 2, 3)],
    }.items():
        results[name] = [cost(act) for act in acts]
    results["before compaction"] = collection.info()
    tokens = collection.index.n_tokens
    results["compact"] = cost(collection.compact)
    results["compact Mtok per CPU second"] = tokens / results["compact"]["cpu_s"] / 1e6
    results["verify"] = cost(collection.verify)
    return results


def cost(act: Callable) -> dict[str, float]:
    """Wall and CPU seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    act()
    return {
        "s": round(time.perf_counter() - began, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
    }


def measure_open(model: Path, folder: Path, count: int) -> dict:
    """The quickest of five openings, each in a fresh process."""
    collection = Collection.create(folder, tokenizer=model)
    began = time.perf_counter()
    with changing(OwnManifest(folder), lambda: [collection._now]) as (change,):
        change.segments.append(change._write(lambda writer: fill(writer, collection, count), None))
    seconds = time.perf_counter() - began
    command = [sys.executable, "-c", OPEN, str(folder)]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(5)]
    return min(runs, key=lambda run: run["open_ms"]) | {
        "create_s": seconds,
        "bytes": collection.refresh() and collection.info()["bytes"],
    }


def fill(writer: SegmentWriter, collection: Collection, count: int, block: int = 1_000_000) -> None:
    """So many documents, each one of 1,000 sentences of five words; written a million at a time, past `add`, which takes them one
    by one."""
    words = ["river", "honey", "tokyo", "giraffe", "garden", "seven", "north", "light", "stone", "paper"]
    rng = np.random.default_rng(1)
    texts = [" ".join(words[pick] for pick in picks) for picks in rng.integers(0, len(words), (1000, 5))]
    tokens = [np.array(collection.tokenizer.encode(text)) for text in texts]
    lengths = np.array([[0, len(text), 0] for text in texts])

    def parts(left: int | None) -> Iterator[IndexPart]:
        for start in range(0, count, block):
            picks = rng.integers(0, len(texts), min(block, count - start))
            ids = [f"doc{n}" for n in range(start, start + len(picks))]
            writer._texts._stream.write("".join([texts[p] for p in picks]).encode())
            bounds = np.cumsum(lengths[picks].ravel()) + writer._texts._end
            writer._texts.bounds.extend(bounds)
            writer._texts._end = int(bounds[-1])
            writer._texts.add_ids(ids)
            yield np.concatenate([tokens[p] for p in picks]), np.array([len(tokens[p]) for p in picks]), ids

    writer._sources.append(parts)


if __name__ == "__main__":
    sys.exit(main())
