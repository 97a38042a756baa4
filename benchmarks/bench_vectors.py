"""Search over document vectors: recall against exact search, queries a second, build time and peak memory, side by side.

    python benchmarks/bench_vectors.py [--documents 1000000] [--width 768] [--queries 1000] [-k 100] [--threads 2] [-o out.json]
    python benchmarks/bench_vectors.py --engines "gemkr pq" usearch

Vectors are drawn as embeddings lie: a mixture of themes on a subspace of `--rank` directions, with noise in all; queries are
documents with noise. Each engine runs alone in a process of its own, queries in batches of 64; one whose package is absent is
left out. Peak memory counts file pages that are mapped and read. Prints a table in Markdown; `-o` is written anew as each engine ends.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from vector_engines import BLOCK, ENGINES

from gemkr.files import write_atomically
from gemkr.vector_index.exact import ExactIndex

ABSENT = re.compile(r"No module named '(faiss|hnswlib|usearch)")
NOISE, QUERY_NOISE = 0.5, 0.6
"""Lengths of the noise beside a document's own direction of length 1, and of what a query differs by."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--rank", type=int, default=64, help="directions that the themes span")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=list(ENGINES))
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name), args.documents, args.width, args.queries, args.rank)
        find_exactly(Path(name), args.k)
        results = []
        for engine in args.engines:
            result = alone(engine, Path(name), args)
            results += [] if result is None else [result]
            if args.output:
                text = json.dumps(vars(args) | {"results": results}, indent=1, default=str)
                write_atomically(args.output, text + "\n")
    print(table(results))
    return 0


def draw(folder: Path, n: int, width: int, q: int, rank: int) -> None:
    """Write documents.npy and queries.npy; the same ones for the same sizes."""
    random = np.random.default_rng(0)
    basis = random.standard_normal((rank, width)).astype(np.float32) / np.sqrt(width)
    themes = random.standard_normal((max(10, n // 500), rank)).astype(np.float32)
    documents = np.lib.format.open_memmap(
        folder / "documents.npy", mode="w+", dtype=np.float16, shape=(n, width)
    )
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        place = themes[random.integers(0, len(themes), size)]
        place = place + 0.7 * random.standard_normal((size, rank), dtype=np.float32)
        vectors = _unit(place @ basis)
        documents[start : start + size] = _unit(
            vectors + NOISE * _unit(random.standard_normal(vectors.shape))
        )
    chosen = documents[np.sort(random.choice(n, q, replace=q > n))].astype(np.float32)
    queries = _unit(chosen + QUERY_NOISE * _unit(random.standard_normal(chosen.shape)))
    np.save(folder / "queries.npy", queries.astype(np.float32))


def find_exactly(folder: Path, k: int) -> None:
    """Write exact.npy."""
    index = ExactIndex(np.load(folder / "documents.npy", mmap_mode="r"))
    np.save(folder / "exact.npy", index.search(np.load(folder / "queries.npy"), k)[1])


def alone(engine: str, folder: Path, args: argparse.Namespace) -> dict | None:
    """An engine's figures, None where its package is not installed."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(args.threads))
    program = Path(__file__).with_name("vector_engines.py")
    done = subprocess.run(
        [sys.executable, program, engine, folder, str(args.k)],
        capture_output=True, text=True, check=False, env=os.environ | threads,
    )  # fmt: skip
    if done.returncode == 0:
        return json.loads(done.stdout)
    if ABSENT.search(done.stderr):
        print(f"{engine} is not installed and left out", file=sys.stderr)
        return None
    raise SystemExit(f"{engine} failed:\n{done.stderr}")


def table(results: list[dict]) -> str:
    """The figures in Markdown, a row per setting."""
    lines = [
        "| engine | setting | recall | queries/s | build s | peak MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        for row in result["rows"]:
            lines.append(
                f"| {result['engine']} | {row['setting']} | {row['recall']:.3f} | {row['queries_s']:.0f} | {result['build_s']:.1f} | "
                f"{result['peak_mib']:.0f} |"
            )
    return "\n".join(lines)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
