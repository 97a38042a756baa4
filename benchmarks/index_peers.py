"""The other libraries of bench_fm_index.py, each measured where it is installed: SDSL (C++), infini-gram, fm-index (PyPI).

A peer takes the same tokens and states as ours and gives a dict of figures, or None where it is not there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
States = dict[int, np.ndarray]
"""Length k -> token ids of the states, int64[states, k]."""


def sdsl(tokens: np.ndarray, offsets: np.ndarray, vocab: int, states: States, folder: Path) -> dict | None:
    """csa_wt_int in C++ (libsdsl-dev), on the reversed documents."""
    compiler = shutil.which("c++")
    if compiler is None or not Path("/usr/include/sdsl").is_dir():
        return None
    program = folder / "sdsl_peer"
    libraries = ["-lsdsl", "-ldivsufsort", "-ldivsufsort64"]
    command = [compiler, "-std=c++17", "-O3", "-DNDEBUG", "-msse4.2", str(HERE / "sdsl_peer.cpp")]
    subprocess.run([*command, "-o", str(program), *libraries], check=True)
    n, documents = len(tokens), len(offsets) - 1
    text = np.ones(n + documents, np.uint32)
    ends = offsets[1:] + np.arange(documents)
    inside = np.ones(len(text), bool)
    inside[ends] = False
    document = np.repeat(np.arange(documents), np.diff(offsets))
    backwards = offsets[document] + offsets[document + 1] - 1 - np.arange(n)
    text[inside] = tokens[backwards].astype(np.uint32) + 2
    text.tofile(folder / "text.u32")
    count = len(next(iter(states.values())))
    parts = [np.array([len(states), count])]
    for k, rows in states.items():
        parts += [np.array([k]), (rows + 2).ravel()]
    np.concatenate(parts).astype(np.uint32).tofile(folder / "states.u32")
    command = [program, folder / "text.u32", folder / "states.u32", str(vocab)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    figures = json.loads(done.stdout)
    return figures | {"build_mtok_s": n / figures.pop("build_s") / 1e6}


INFINI_BUILD = """
import argparse, sys
from infini_gram import indexing
folder, threads = sys.argv[1:]
indexing.build_sa(argparse.Namespace(save_dir=folder, temp_dir=folder, worker_id=0, workers=1, shards=1,
                                     mem=4, cpus=int(threads), token_width=2))
"""


def infini_gram(
    tokens: np.ndarray, offsets: np.ndarray, vocab: int, states: States, folder: Path
) -> dict | None:
    """A plain suffix array with a C++ engine; successors by walking the array (`ntd`, no approximation)."""
    if find_spec("infini_gram") is None or vocab >= 65535:
        return None
    home = folder / "infini"
    home.mkdir()
    documents = len(offsets) - 1
    starts = offsets[:-1] + np.arange(documents)
    text = np.full(len(tokens) + documents, 0xFFFF, np.uint16)
    inside = np.ones(len(text), bool)
    inside[starts] = False
    text[inside] = tokens
    text.tofile(home / "tokenized.0")
    (2 * starts).astype(np.uint64).tofile(home / "offset.0")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", INFINI_BUILD, home, "2"], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    from infini_gram.engine import InfiniGramEngine

    engine = InfiniGramEngine(str(home), eos_token_id=2, vocab_size=vocab, token_dtype="u16")
    figures: dict = {
        "build_mtok_s": len(tokens) / seconds / 1e6,
        "bits_per_token": 8 * sum(p.stat().st_size for p in home.iterdir()) / len(tokens),
    }
    for k, rows in states.items():
        times = []
        for row in rows[: 20 if k < 3 else 200].tolist():
            began = time.perf_counter()
            engine.ntd(prompt_ids=row, max_support=1 << 30)
            times.append(1e6 * (time.perf_counter() - began))
        figures[str(k)] = {"next_p50": float(np.median(times)), "next_p99": float(np.percentile(times, 99))}
    return figures


def fm_index(
    tokens: np.ndarray, offsets: np.ndarray, vocab: int, states: States, folder: Path
) -> dict | None:
    """The Rust package of that name: characters, counts only, so one character per token."""
    if find_spec("fm_index") is None:
        return None
    import fm_index as package

    shift = 0xE000  # beyond the surrogates
    separator = chr(shift - 0x2000)
    characters = (tokens.astype(np.uint32) + shift).tobytes().decode("utf-32-le")
    text = separator.join(characters[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist()))
    began = time.perf_counter()
    index = package.FMIndex(text)
    figures: dict = {"build_mtok_s": len(tokens) / (time.perf_counter() - began) / 1e6}
    for k, rows in states.items():
        patterns = ["".join(chr(t + shift) for t in row) for row in rows.tolist()]
        times = []
        for pattern in patterns:
            began = time.perf_counter()
            index.count(pattern)
            times.append(1e6 * (time.perf_counter() - began))
        figures[str(k)] = {"search_p50": float(np.median(times))}
    return figures


PEERS = {"sdsl": sdsl, "infini-gram": infini_gram, "fm-index": fm_index}


def main() -> None:
    """One peer in a process of its own: peers.py NAME FOLDER, with tokens.npy, offsets.npy, states.npz in FOLDER."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("vocab", type=int)
    args = parser.parse_args()
    states = {int(k): v for k, v in np.load(args.folder / "states.npz").items()}
    tokens, offsets = np.load(args.folder / "tokens.npy"), np.load(args.folder / "offsets.npy")
    print(json.dumps(PEERS[args.name](tokens, offsets, args.vocab, states, args.folder)))


if __name__ == "__main__":
    main()
