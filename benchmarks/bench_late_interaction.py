"""Search by late interaction: recall against exact search, queries a second, bytes a token, build time and peak memory, side by side.

    python benchmarks/bench_late_interaction.py [--documents 100000] [--lists 8192] [--queries 32] [-k 100] [--folder F] [-o out.json]
    python benchmarks/bench_late_interaction.py --encoder runs/all-minilm-l6-v2 --corpus ../shared/data/corpora/wiki112k.csv.gz

Without `--encoder`, tokens are drawn: about 120 a document, 128 numbers wide, of length 1, around 5,000 centres; a query is 32 tokens of
a document with noise. With it, passages are encoded by the token states of a text encoder, projected to 128 numbers; a query is
a sentence of a passage. Each engine runs alone in a process of its own, queries in batches of 16. Peak memory is anonymous memory: files that
are mapped and read do not count. With `--folder`, tokens, exact answers and indexes are kept there, and those that are there are used. Prints
a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from late_material import WIDTH, batches, material, queries_of, tokens_of

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.centroid_index import CentroidIndex
from gemkr.vector_index.token_exact import ExactTokenIndex

ENGINES = ("exact", "centroid 2 bits", "centroid 4 bits", "centroid 8 bits")
SETTINGS = {
    "default": {},
    "half": {"candidates": 16_384},
    "quarter": {"candidates": 8192},
    "most": {"probes": 32, "prune": 0.0, "candidates": 65_536},
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
    parser.add_argument("--folder", type=Path, help="where tokens, exact answers and indexes are kept")
    parser.add_argument("--encoder", help="a folder of a text encoder")
    parser.add_argument(
        "--precision",
        default="bf16",
        help="of encoding; fp32 where the processor multiplies no bf16 (default bf16)",
    )
    parser.add_argument("--corpus")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--alone", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(measure(args.alone[0], Path(args.alone[1]), args.k, args.lists)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        made = material(folder, args)
        results = [alone(engine, folder, args) for engine in args.engines]
    if args.output:
        args.output.write_text(json.dumps({"made": made, "k": args.k, "results": results}, indent=1) + "\n")
    print(f"{made}\n\n{table(results)}")
    return 0


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
    rows = []
    if engine == "exact":
        searches = {"": ExactTokenIndex(tokens).search}
        figures = {"bytes": float(2 * WIDTH), "build_s": 0.0, "build_cpu_s": 0.0, "peak_mib": 0.0}
    else:
        config = CentroidIndex.Config(bits=int(engine.split()[1]), lists=lists)
        index, figures = built(config, tokens, folder)
        searches = {
            name: CentroidIndex(replace(config, **change), index.codec, index.parts).search
            for name, change in SETTINGS.items()
        }
    for setting, search in searches.items():
        for _ in range(2):  # the first time maps the pages that are read
            started, worked = time.perf_counter(), time.process_time()
            found = np.concatenate([search(batch, k)[1] for batch in batches(queries)])
            n, waited, worked = len(found), time.perf_counter() - started, time.process_time() - worked
        rows.append(
            {
                "setting": setting,
                "recall": _recall(found, exact),
                "queries_s": n / waited,
                "queries_cpu_s": n / worked,
            }
        )
    return {"engine": engine, **figures, "rows": rows}


def built(config: CentroidIndex.Config, tokens: TokenVectors, folder: Path) -> tuple[CentroidIndex, dict]:
    """An index and what building it took, from the folder where it is there."""
    note = folder / f"index-{config.bits}-{config.lists or 'default'}.json"
    if not note.is_file():
        before, began, used = _anonymous(), time.perf_counter(), time.process_time()
        with _watched() as peak:
            CentroidIndex.prepare(config, tokens, folder / "tokens")
        figures = {
            "build_s": time.perf_counter() - began,
            "build_cpu_s": time.process_time() - used,
            "peak_mib": (peak() - before) / 2**20,
        }
        note.write_text(json.dumps(figures) + "\n")
    index = CentroidIndex.from_config(config, tokens, folder / "tokens")
    return index, {"bytes": index.bytes_per_token, **json.loads(note.read_text())}


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


def _anonymous() -> int:
    """Bytes of memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def _watched() -> Iterator[Callable[[], int]]:
    """What gives the most `_anonymous` memory seen since, looked at fifty times a second. (The most that was resident says nothing
    of it once other processes have driven pages of mapped files out.)"""
    ended, seen = threading.Event(), [_anonymous()]

    def look() -> None:
        while not ended.wait(0.02):
            seen[0] = max(seen[0], _anonymous())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda: seen[0]
    finally:
        ended.set()
        watcher.join()


if __name__ == "__main__":
    sys.exit(main())
