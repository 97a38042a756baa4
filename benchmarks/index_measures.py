"""What bench_fm_index.py and index_gate.py measure alike: builds in fresh processes, sizes, states drawn from a text."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from gemkr.fm_index import FMIndex

BATCH = 640
LOCATE = {"marks", "samples", "starts", "ends", "doc_array"}
NAMES = {"id_offsets", "ids", "tokenizer"}

BUILD = """
import json, sys, time
import numpy as np
from gemkr.fm_index import FMIndex
def memory(name):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(name))
folder, name, options = sys.argv[1:]
tokens, offsets = np.load(folder + "/tokens.npy"), np.load(folder + "/offsets.npy")
before, stages, last = memory("VmRSS"), {}, [None, time.perf_counter()]
def progress(stage, share):
    now, stage = time.perf_counter(), "blocks" if stage.startswith("block ") else stage
    if stage != last[0]:
        if last[0]: stages[last[0]] = now - last[1]
        last[:] = stage, now
began, cpu = time.perf_counter(), time.process_time()
index = FMIndex.build_flat(tokens, offsets, progress=progress, work_folder=folder, **json.loads(options))
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
peak = memory("VmHWM") - before
began = time.perf_counter()
index.save(f"{folder}/{name}.fmi")
print(json.dumps({"seconds": seconds, "cpu_s": cpu, "mtok_s": len(tokens) / seconds / 1e6, "peak_bytes_per_token": peak / len(tokens),
                  "save_s": time.perf_counter() - began, "stages": stages}))
"""


def build_alone(folder: Path, name: str, **options) -> dict:
    """Build in a fresh process, twice, and keep the faster; the peak is above input and interpreter."""
    command = [sys.executable, "-c", BUILD, folder, name, json.dumps(options)]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(2)]
    return min(runs, key=lambda run: run["seconds"])


def sizes(index: FMIndex) -> dict:
    """Bits per token by section, and in three groups."""
    sections = {name: 8 * size / index.n_tokens for name, size in index.info()["sections"].items()}
    groups = {
        "search_and_next": sum(v for k, v in sections.items() if k not in LOCATE | NAMES),
        "locate": sum(v for k, v in sections.items() if k in LOCATE),
        "names": sum(v for k, v in sections.items() if k in NAMES),
        "file": 8 * index.info()["file_bytes"] / index.n_tokens,
    }
    return groups | {"sections": sections}


class TextSampler:
    """Draws states: the k tokens before a random place of a random document, and the token there."""

    def __init__(self, tokens: np.ndarray, offsets: np.ndarray) -> None:
        self.tokens = tokens
        self.ends = np.repeat(offsets[1:], np.diff(offsets))

    def draw(self, k: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """(tokens int64[count, k], next token int64[count])."""
        at = np.random.default_rng(seed).integers(0, len(self.tokens) - k, 8 * count + 64)
        at = at[at + k < self.ends[at]][:count]
        return np.stack([self.tokens[at + j] for j in range(k)], axis=1), self.tokens[at + k]


def spans(index: FMIndex, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    lo, hi = np.zeros(len(states), np.int64), np.full(len(states), index.root.hi)
    for column in states.T:
        lo, hi = index.extend_many(lo, hi, column)
    return lo, hi


def timed(call) -> tuple[float, object]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


def best(call, times: int = 30) -> float:
    return min(timed(call)[0] for _ in range(times))
