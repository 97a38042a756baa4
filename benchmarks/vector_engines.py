"""The engines of bench_vectors.py, each measured alone in a process of its own: vector_engines.py NAME FOLDER K THREADS.

FOLDER holds documents.npy float16[n, width], queries.npy float32[q, width] and exact.npy int64[q, k]. An engine is a function of
the documents that returns, for several settings, a search; what it prints is one json object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gemkr.vector_index.faiss_library import load_faiss

Search = Callable[[np.ndarray, int], np.ndarray]
"""Queries float32[q, width] and k -> document numbers int64[q, k]."""
BLOCK = 16_384


def ours_exact(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    """Every float16 vector, read from the file."""
    from gemkr.vector_index.exact import ExactIndex

    index = ExactIndex(documents)
    yield "", lambda queries, k: index.search(queries, k)[1]


def ours_int8(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    """The same with one byte a number."""
    from gemkr.vector_index.exact import ExactIndex
    from gemkr.vector_index.vectors import as_stored, joined

    blocks = (documents[start : start + BLOCK] for start in range(0, len(documents), BLOCK))
    index = ExactIndex(joined([as_stored(block, "int8") for block in blocks]))
    yield "", lambda queries, k: index.search(queries, k)[1]


def ours_ivf(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    from gemkr.vector_index.faiss_index import IVFIndex
    from gemkr.vector_index.vectors import Vectors

    index = IVFIndex.from_config(IVFIndex.Config(), Vectors(documents))
    for index.probes in (8, 32, 128):
        yield f"probes {index.probes}", lambda queries, k: index.search(queries, k)[1]


def ours_pq(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    from gemkr.vector_index.faiss_index import PQIndex
    from gemkr.vector_index.vectors import Vectors

    index = PQIndex.from_config(PQIndex.Config(), Vectors(documents))
    for index.candidates in (1, 3, 10):
        yield f"rescore {index.candidates}", lambda queries, k: index.search(queries, k)[1]


def faiss_flat(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    """faiss' own exact search, float32 in memory."""
    faiss = load_faiss()

    index = faiss.IndexFlatIP(documents.shape[1])
    for start in range(0, len(documents), BLOCK):
        index.add(documents[start : start + BLOCK].astype(np.float32))
    yield "", lambda queries, k: index.search(queries, k)[1]


def hnswlib(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    """A graph of float32 vectors, M 16, ef_construction 100."""
    import hnswlib as package

    index = package.Index(space="ip", dim=documents.shape[1])
    index.init_index(max_elements=len(documents), M=16, ef_construction=100)
    index.set_num_threads(_threads())
    for start in range(0, len(documents), BLOCK):
        index.add_items(documents[start : start + BLOCK].astype(np.float32))
    for ef in (100, 200, 800):
        index.set_ef(ef)
        yield f"ef {ef}", lambda queries, k: index.knn_query(queries, k=k)[0].astype(np.int64)


def usearch(documents: np.ndarray) -> Iterator[tuple[str, Search]]:
    """A graph of float16 vectors, connectivity 16, expansion_add 100."""
    from usearch.index import Index

    width = documents.shape[1]
    index = Index(ndim=width, metric="ip", dtype="f16", connectivity=16, expansion_add=100)
    for start in range(0, len(documents), BLOCK):
        block = np.ascontiguousarray(documents[start : start + BLOCK])
        index.add(np.arange(start, start + len(block)), block, threads=_threads())
    for expansion in (100, 200, 800):
        index.expansion_search = expansion
        yield (
            f"expansion {expansion}",
            lambda queries, k: (
                index.search(queries, k, threads=_threads()).keys.astype(np.int64).reshape(-1, k)
            ),
        )


ENGINES = {
    "gemkr exact": ours_exact,
    "gemkr exact int8": ours_int8,
    "gemkr ivf": ours_ivf,
    "gemkr pq": ours_pq,
    "faiss flat": faiss_flat,
    "hnswlib": hnswlib,
    "usearch": usearch,
}


def measure(name: str, folder: Path, k: int) -> dict:
    """Seconds to build, peak memory above what the process had with its packages loaded, and per setting recall and speed."""
    documents = np.load(folder / "documents.npy", mmap_mode="r")
    queries, exact = np.load(folder / "queries.npy"), np.load(folder / "exact.npy")
    next(ENGINES[name](np.array(documents[:2000])))  # its packages are loaded
    before = _memory("VmRSS")
    began = time.perf_counter()
    rows, build = [], None
    for setting, search in ENGINES[name](documents):
        build = time.perf_counter() - began if build is None else build
        search(queries[:8], k)
        started = time.perf_counter()
        found = np.concatenate([search(queries[i : i + 64], k) for i in range(0, len(queries), 64)])
        seconds = time.perf_counter() - started
        rows.append({"setting": setting, "recall": recall(found, exact), "queries_s": len(queries) / seconds})
    return {"engine": name, "build_s": build, "peak_mib": (_memory("VmHWM") - before) / 2**20, "rows": rows}


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """The mean share of the exact documents of a query that were found."""
    pairs = zip(found.tolist(), exact.tolist(), strict=True)
    return float(np.mean([len(set(ours) & set(theirs)) / len(theirs) for ours, theirs in pairs]))


def _threads() -> int:
    return int(os.environ["OMP_NUM_THREADS"])


def _memory(name: str) -> int:
    """Anonymous or peak memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
