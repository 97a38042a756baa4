"""What searching vectors over shards costs, next to one process that has all of them open, and whether what is found is the same.

    PYTHONPATH=.:benchmarks python benchmarks/bench_shard_vectors.py --tokenizer MODEL [--documents 20000] [--width 384] [--shards 2] [--ray]

Vectors are drawn, float16, and searched exactly. CPU time is that of this process and of those of the shards from /proc, the mean of
`--rounds`; elapsed time, the least of them, depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from bench_shards import times

from gemkr.collection.shard_processes import LocalShards
from gemkr.collection.sharded import ShardedCollection
from gemkr.interfaces import TokenVectors
from gemkr.types import Document
from gemkr.vector_index.exact import ExactIndex
from gemkr.vector_index.segment_tokens import TokenKind, segment_tokens
from gemkr.vector_index.segment_vectors import VectorKind, segment_vectors
from gemkr.vector_index.sharded_search import ShardedTokens, ShardedVectors
from gemkr.vector_index.token_exact import ExactTokenIndex

K, TOKENS, TOKEN_WIDTH = 10, 4, 96
REPEATS = 10


class Drawn:
    """An encoder of random vectors."""

    fingerprint = "drawn"

    def __init__(self, width: int) -> None:
        self.width = width

    def encode_documents(self, documents: Sequence[Document]) -> np.ndarray:
        return self.drawn([int(document.doc_id) for document in documents], 1)

    def drawn(self, seeds: Sequence[int], rows: int) -> np.ndarray:
        found = [
            np.random.default_rng(seed).standard_normal((rows, self.width), np.float32) for seed in seeds
        ]
        return np.concatenate([each / np.linalg.norm(each, axis=1, keepdims=True) for each in found])


class DrawnTokens(Drawn):
    """TOKENS of them for each text."""

    def encode_documents(self, documents: Sequence[Document]) -> TokenVectors:
        return self.tokens([int(document.doc_id) for document in documents])

    def tokens(self, seeds: Sequence[int]) -> TokenVectors:
        values = self.drawn(seeds, TOKENS).astype(np.float16)
        return TokenVectors(values, TOKENS * np.arange(len(seeds) + 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        documents = [Document(str(number), "a") for number in range(args.documents)]
        made = ShardedCollection.create(
            Path(name) / "shards", args.shards, tokenizer=args.tokenizer, documents=documents
        )
        places = [(shard.folder, shard.manifest) for shard in made.shards]
        local = LocalShards(places)
        shards = {"processes": (stack.enter_context(local), [shard.process.pid for shard in local.shards])}
        if args.ray:
            import ray

            from gemkr.collection.cluster import RayShards

            ray.init(num_cpus=args.shards, log_to_driver=False, include_dashboard=False)
            actors = RayShards(places)
            index = stack.enter_context(actors)
            asked = [shard.actor.__ray_call__.remote(lambda self: os.getpid()) for shard in actors.shards]
            shards["Ray actors"] = index, ray.get(asked)
        parts = made.documents.live_parts
        for queries in (1, 16):
            for kind, ways in searches(Path(name), parts, args.width, queries, shards).items():
                report(f"{kind}, {queries} queries", ways, args.rounds)
    return 0


def searches(
    folder: Path, parts: Any, width: int, queries: int, shards: dict[str, tuple[Any, list[int]]]
) -> dict[str, dict[str, tuple[Callable[[], Any], list[int]]]]:
    """For vectors and token vectors, what searches them in each way, and the processes that it runs in beside this one."""
    seeds = [10**9 + number for number in range(queries)]
    dense, late = Drawn(width), DrawnTokens(TOKEN_WIDTH)
    asked = {"vectors": dense.drawn(seeds, 1), "token vectors": late.tokens(seeds)}
    kinds = {"vectors": (VectorKind(dense, "float16"), ExactIndex, ShardedVectors)}
    kinds["token vectors"] = (TokenKind(late), ExactTokenIndex, ShardedTokens)
    found: dict[str, dict[str, tuple[Callable[[], Any], list[int]]]] = {}
    for name, (kind, exact, over) in kinds.items():
        place = folder / name
        held, _ = (
            segment_vectors(place, parts, dense, "float16", "", most=math.inf)
            if name == "vectors"
            else segment_tokens(place, parts, late, "", most=math.inf)
        )
        indexes = {"one process": (held.exact(), [])} | {
            way: (over(index, place, parts, kind, exact, exact.Config(), ""), pids)
            for way, (index, pids) in shards.items()
        }
        found[name] = {way: (_search(index, asked[name]), pids) for way, (index, pids) in indexes.items()}
    return found


def _search(index: Any, asked: Any) -> Callable[[], Any]:
    return lambda: index.search(asked, K)


def report(title: str, ways: dict[str, tuple[Callable[[], Any], list[int]]], rounds: int) -> None:
    """Print milliseconds of a search in each way, in turns."""
    expected = ways["one process"][0]()
    same = {way: np.array_equal(call()[1], expected[1]) for way, (call, _) in ways.items()}
    measured: dict[str, list] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, (call, pids) in ways.items():
            measured[way].append(times(call, pids, repeats=REPEATS))
    for way, each in measured.items():
        cpu, own, _ = np.mean(each, axis=0)
        least = min(elapsed for _, _, elapsed in each)
        print(
            f"{title}, {way}: {cpu:.2f} ms of CPU, {own:.2f} of them here, {least:.2f} elapsed, the same documents: {same[way]}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
