"""Search by late interaction: recall against exact search, queries a second, bytes a token, build time and peak memory, side by side.

    python benchmarks/bench_late_interaction.py [--documents 100000] [--lists 8192] [--queries 32] [-k 100] [-o out.json]
    python benchmarks/bench_late_interaction.py --encoder runs/all-minilm-l6-v2 --corpus ../shared/data/corpora/wiki112k.csv.gz

Without `--encoder`, tokens are drawn: about 120 a document, 128 numbers wide, of length 1, around 5,000 centres; a query is 32 tokens of
a document with noise. With it, passages are encoded by the token states of a text encoder, projected to 128 numbers; a query is
the first sentence of a passage. Each engine runs alone in a process of its own, queries in batches of 16. Peak memory is anonymous memory: files that
are mapped and read do not count. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.centroid_index import CentroidIndex
from gemkr.vector_index.maxsim import picked
from gemkr.vector_index.token_exact import ExactTokenIndex
from gemkr.vector_index.token_store import FORMAT, TokenWriter, open_tokens

WIDTH, CENTRES, TOKENS, BLOCK, BATCH = 128, 5000, 120, 2048, 16
NOISE, QUERY_NOISE = 0.7, 0.5
"""Lengths of the noise beside a centre of length 1, and of what a query vector differs by from its token."""
ENGINES = ("exact", "centroid 2 bits", "centroid 4 bits", "centroid 8 bits")
SETTINGS = {
    "default": {},
    "few": {"probes": 8, "candidates": 2048, "decoded": 512, "rescored": 256},
    "more": {"probes": 32, "prune": 0.0, "candidates": 16_384, "decoded": 4096, "rescored": 1024},
    "decoded only": {"rescored": 0},
}
Search = Callable[[TokenVectors, int], np.ndarray]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--lists", type=int, help="centroids; default: that of the index")
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("-k", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoder", help="a folder of a text encoder")
    parser.add_argument("--corpus")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--alone", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.alone[0], Path(args.alone[1]), args.k, args.lists)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = draw(folder, args) if args.encoder is None else encode(folder, args)
        began = time.perf_counter()
        index, queries = ExactTokenIndex(tokens_of(folder)), queries_of(folder)
        found = [index.search(batch, args.k)[1] for batch in batches(queries)]
        np.save(folder / "exact.npy", np.concatenate(found))
        print(f"{made}; exact answers in {time.perf_counter() - began:.1f} s", file=sys.stderr)
        results = [alone(engine, folder, args) for engine in args.engines]
    if args.output:
        args.output.write_text(json.dumps({"made": made, "k": args.k, "results": results}, indent=1) + "\n")
    print(f"{made}\n\n{table(results)}")
    return 0


def draw(folder: Path, args: argparse.Namespace) -> str:
    """Write random tokens and queries; the same ones for the same sizes."""
    random = np.random.default_rng(0)
    centres = _unit(random.standard_normal((CENTRES, WIDTH), np.float32))

    def blocks() -> Iterator[TokenVectors]:
        for start in range(0, args.documents, BLOCK):
            lengths = random.integers(TOKENS - 40, TOKENS + 41, min(BLOCK, args.documents - start))
            values = centres[random.integers(0, CENTRES, lengths.sum())]
            values += (NOISE / WIDTH**0.5) * random.standard_normal(values.shape, np.float32)
            yield TokenVectors(_unit(values), np.concatenate([[0], np.cumsum(lengths)]))

    write(folder, args.documents, blocks())
    tokens = tokens_of(folder)
    chosen = picked(tokens, np.sort(random.choice(args.documents, args.queries, replace=False)))
    rows = [
        random.choice(np.arange(start, stop), 32, replace=False)
        for start, stop in zip(chosen.offsets[:-1], chosen.offsets[1:], strict=True)
    ]
    values = chosen.values[np.concatenate(rows)].astype(np.float32)
    values += (QUERY_NOISE / WIDTH**0.5) * random.standard_normal(values.shape, np.float32)
    save_queries(folder, TokenVectors(_unit(values), np.arange(args.queries + 1) * 32))
    return f"{args.documents:,} drawn documents, {len(tokens.values):,} tokens, {args.queries} queries of 32 vectors"


def encode(folder: Path, args: argparse.Namespace) -> str:
    """Write the token vectors of passages and of the first sentences of some."""
    from gemkr.data.corpus import read_corpus
    from gemkr.models.hf.multi_vector import MultiVectorTokenEncoder
    from gemkr.types import Query

    encoder = MultiVectorTokenEncoder.from_config(
        MultiVectorTokenEncoder.Config(folder=args.encoder, query_tokens=32, document_tokens=180), None
    )
    documents = list(islice(read_corpus(args.corpus), args.documents))
    parts = (
        encoder.encode_documents(documents[start : start + 256]) for start in range(0, len(documents), 256)
    )
    write(folder, len(documents), parts)
    chosen = np.random.default_rng(0).choice(len(documents), args.queries, replace=False)
    asked = [Query(str(i), documents[i].text.split(". ")[0][:200] or "what") for i in chosen.tolist()]
    save_queries(folder, encoder.encode_queries(asked))
    return f"{len(documents):,} passages of {Path(args.corpus).name}, {len(tokens_of(folder).values):,} tokens, {args.queries} queries"


def write(folder: Path, documents: int, blocks: Iterator[TokenVectors]) -> None:
    writer = TokenWriter(folder / "tokens", _plan(documents))
    for block in blocks:
        writer.add(block)
    writer.finish()
    (folder / "documents").write_text(str(documents))


def _plan(documents: int) -> dict:
    return {"format": FORMAT, "encoder": "drawn", "corpus": "drawn", "shape": [documents, WIDTH]}


def tokens_of(folder: Path) -> TokenVectors:
    return open_tokens(folder / "tokens", _plan(int((folder / "documents").read_text())), "draw them")


def save_queries(folder: Path, queries: TokenVectors) -> None:
    np.savez(folder / "queries.npz", values=queries.values, offsets=queries.offsets)


def queries_of(folder: Path) -> TokenVectors:
    held = np.load(folder / "queries.npz")
    return TokenVectors(held["values"], held["offsets"])


def batches(queries: TokenVectors) -> Iterator[TokenVectors]:
    n = len(queries.offsets) - 1
    for start in range(0, n, BATCH):
        yield picked(queries, np.arange(start, min(n, start + BATCH)))


def alone(engine: str, folder: Path, args: argparse.Namespace) -> dict:
    """An engine's figures, from a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(args.threads))
    command = [sys.executable, __file__, "--alone", engine, folder, "-k", str(args.k)]
    command += ["--lists", str(args.lists)] if args.lists else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | threads)
    if done.returncode:
        raise SystemExit(f"{engine} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def measure(engine: str, folder: Path, k: int, lists: int | None) -> dict:
    """Seconds to build, peak anonymous memory meanwhile, bytes a token, and per setting recall, and speed by clock and by processor."""
    tokens, queries = tokens_of(folder), queries_of(folder)
    exact = np.load(folder / "exact.npy")
    before, began, used = _anonymous(), time.perf_counter(), time.process_time()
    rows = []
    if engine == "exact":
        searches = {"": ExactTokenIndex(tokens).search}
        size = float(2 * WIDTH)
    else:
        config = CentroidIndex.Config(bits=int(engine.split()[1]), lists=lists)
        index = CentroidIndex.build(config, tokens)
        searches = {
            name: CentroidIndex(replace(config, **change), index.codec, index.parts).search
            for name, change in SETTINGS.items()
        }
        size = index.bytes_per_token
    build, build_used = time.perf_counter() - began, time.process_time() - used
    for setting, search in searches.items():
        search(picked(queries, np.arange(1)), k)
        started, worked = time.perf_counter(), time.process_time()
        found = np.concatenate([search(batch, k)[1] for batch in batches(queries)])
        n = len(found)
        rows.append(
            {
                "setting": setting,
                "recall": _recall(found, exact),
                "queries_s": n / (time.perf_counter() - started),
                "queries_cpu_s": n / (time.process_time() - worked),
            }
        )
    return {
        "engine": engine, "build_s": build, "build_cpu_s": build_used, "bytes": size,
        "peak_mib": (_anonymous(peak=True) - before) / 2**20, "rows": rows,
    }  # fmt: skip


def table(results: list[dict]) -> str:
    """The figures in Markdown; speeds beside those of exact search, where it is among them."""
    exact = next((r["rows"][0]["queries_cpu_s"] for r in results if r["engine"] == "exact"), None)
    lines = [
        "| engine | setting | recall | queries/s | queries/s of a core | times exact | bytes/token | build s (of a core) | peak MiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for result in results:
        for row in result["rows"]:
            times = "" if exact is None else f"{row['queries_cpu_s'] / exact:.1f}"
            lines.append(
                f"| {result['engine']} | {row['setting']} | {row['recall']:.3f} | {row['queries_s']:.1f} | {row['queries_cpu_s']:.1f} | "
                f"{times} | {result['bytes']:.1f} | {result['build_s']:.0f} ({result['build_cpu_s']:.0f}) | {result['peak_mib']:.0f} |"
            )
    return "\n".join(lines)


def _recall(found: np.ndarray, exact: np.ndarray) -> float:
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    return float(np.mean([len(set(ours) & set(theirs)) / len(theirs) for ours, theirs in pairs]))


def _anonymous(*, peak: bool = False) -> int:
    """Bytes of memory that no file backs; with `peak`, the most the process has held less its mapped files now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = {
        line.split(":")[0]: int(line.split()[1]) * 1024
        for line in lines
        if line.startswith(("VmHWM", "RssAnon", "RssFile"))
    }
    return held["VmHWM"] - held["RssFile"] if peak else held["RssAnon"]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    sys.exit(main())
