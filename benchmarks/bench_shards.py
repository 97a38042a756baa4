"""What a decoding step costs over shards, next to one collection, and whether rankings are the same.

    PYTHONPATH=.:benchmarks python benchmarks/bench_shards.py CORPUS --tokenizer MODEL --limit 40000 [--ray]

A step extends all states by a token and reads the mask of what may follow: two messages to each shard. CPU time is that of this
process and of those of the shards from /proc; elapsed time depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from index_measures import TextSampler, spans

from gemkr.collection.collection import Collection
from gemkr.collection.shard_processes import LocalShards
from gemkr.collection.sharded import ShardedCollection
from gemkr.data.corpus import read_corpus
from gemkr.decoding.config import DecodingConfig
from gemkr.retrievers.generative.config import ScoringConfig
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.testing import RandomLM
from gemkr.types import Query

STATES = (16, 640)
LENGTHS = (1, 3, 8)
REPEATS = 40
"""Steps of a measurement: the clock of another process counts hundredths of a second."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        documents = list(islice(read_corpus(args.corpus), args.limit))
        began = time.perf_counter()
        sharded = ShardedCollection.create(
            Path(name) / "shards", args.shards, tokenizer=args.tokenizer, documents=documents, processes=0
        )
        print(f"{args.shards} shards of {len(sharded)} documents made in {time.perf_counter() - began:.1f} s")
        whole = Collection.create(
            Path(name) / "whole", tokenizer=args.tokenizer, documents=sharded.documents, processes=0
        )
        folders = [(shard.folder, shard.manifest) for shard in sharded.shards]
        local = LocalShards(folders)
        ways: dict[str, tuple[Any, list[int]]] = {
            "one index": (whole.index, []),
            "processes": (stack.enter_context(local), [shard.process.pid for shard in local.shards]),
        }
        if args.ray:
            import ray

            from gemkr.collection.cluster import RayShards

            ray.init(num_cpus=args.shards, log_to_driver=False, include_dashboard=False)
            actors = RayShards(folders)
            index = stack.enter_context(actors)
            asked = [shard.actor.__ray_call__.remote(lambda self: os.getpid()) for shard in actors.shards]
            ways["Ray actors"] = index, ray.get(asked)
        rankings = {way: rank(index, whole, args.queries) for way, (index, _) in ways.items()}
        for way, found in rankings.items():
            print(f"{way}: rankings as of one index: {found == rankings['one index']}")
        print(f"{sum(map(len, rankings['one index']))} hits of {args.queries} queries")
        print(json.dumps(measure(ways, whole, args.rounds), indent=1))
    return 0


def rank(index: Any, whole: Collection, queries: int) -> list[tuple]:
    """The hits of a model of random probabilities: beam search is what it is with any model."""
    codes = whole.tokenizer
    model = RandomLM(codes.vocab_size, codes.eos_ids, scale=4.0)
    decoding, scoring = DecodingConfig(beam_size=8, groups=2, max_tokens=6), ScoringConfig(inside_span=None)
    retriever = GenerativeRetriever(model, index, codes, lambda q: q.question, decoding, scoring)
    asked = [Query(str(number), f"question {number}") for number in range(queries)]
    return [ranking.hits for ranking in retriever.retrieve(asked, 10)]


def measure(ways: dict[str, tuple[Any, list[int]]], whole: Collection, rounds: int) -> list[dict]:
    """Milliseconds of a step, the mean of the CPU and the least elapsed of interleaved rounds: all CPU, this process's alone, elapsed."""
    index = whole.index
    docs = [np.asarray(index.extract(doc), np.int64) for doc in range(0, len(index), 7)]
    places = TextSampler(np.concatenate(docs), np.cumsum([0, *map(len, docs)]))
    rows = []
    for count in STATES:
        for length in LENGTHS:
            states, follow = places.draw(length, count)
            calls = {way: step_of(index, states, follow) for way, (index, _) in ways.items()}
            for call in calls.values():
                np.testing.assert_array_equal(call(), calls["one index"]())
            found: dict[str, list] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, (_, others) in ways.items():
                    found[way].append(times(calls[way], others, repeats=REPEATS))
            rows += [
                {
                    "states": count,
                    "tokens": length,
                    "way": way,
                    "cpu_ms": round(float(np.mean([cpu for cpu, _, _ in rounds_of])), 3),
                    "own_cpu_ms": round(float(np.mean([own for _, own, _ in rounds_of])), 3),
                    "ms": round(min(elapsed for _, _, elapsed in rounds_of), 3),
                }
                for way, rounds_of in found.items()
            ]
    return rows


def step_of(index: Any, states: np.ndarray, follow: np.ndarray) -> Any:
    lo, hi = spans(index, states)
    mask = np.zeros((len(lo), index.mask_words), np.uint32)

    def step() -> np.ndarray:
        index.fill_mask(*index.extend_many(lo, hi, follow), mask)
        return mask

    return step


def times(call: Any, others: Sequence[int], repeats: int) -> tuple[float, float, float]:
    before, own, began = cpu_of(others), time.process_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    own, elapsed = time.process_time() - own, time.perf_counter() - began
    total = own + cpu_of(others) - before
    return 1e3 * total / repeats, 1e3 * own / repeats, 1e3 * elapsed / repeats


def cpu_of(processes: Sequence[int]) -> float:
    """Seconds of CPU that these processes took so far, in steps of a hundredth."""
    stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in processes)
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    raise SystemExit(main())
