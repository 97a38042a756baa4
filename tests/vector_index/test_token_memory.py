"""Exact late interaction over memory-mapped vectors takes the memory of a few blocks, not of the vectors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gemkr.vector_index.token_exact import BLOCK

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS, TOKENS, WIDTH, QUERIES = 20_000, 20, 128, 32
BLOCKS = 8 * BLOCK * QUERIES * (4 + 8)
"""Eight blocks of scores and document numbers: 25 MB."""
PROGRAM = f"""
import sys
from pathlib import Path
import numpy as np
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.token_exact import ExactTokenIndex

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {{line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Vm", "Rss"))}}

def peak():
    now = held()
    return now["VmHWM"] - (now["VmRSS"] - now["RssAnon"])

values = np.memmap(sys.argv[1], "<f2", "r", shape=({DOCUMENTS * TOKENS}, {WIDTH}))
index = ExactTokenIndex(TokenVectors(np.asarray(values), np.arange({DOCUMENTS} + 1) * {TOKENS}))
rows = (np.arange({QUERIES}) * {100 * TOKENS})[:, None] + [3, 7]
queries = TokenVectors(values[rows.ravel()].astype(np.float32), np.arange({QUERIES} + 1) * 2)
values.view(np.uint8)[:, ::64].max()  # every page of the file is in now: what the peak grows by from here is anonymous
before = held()["RssAnon"]
_, docs = index.search(queries, 100)
searched = peak() - before
copy = np.array(values)
print(searched, peak() - before, *docs[:, 0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
def test_exact_search_holds_a_few_blocks(tmp_path: Path) -> None:
    """By the process's peak of anonymous memory, which sees a copy of the 102 MB where one is made."""
    part = np.random.default_rng(3).standard_normal((DOCUMENTS * TOKENS // 5, WIDTH), np.float32)
    part = part.astype("<f2")
    with open(tmp_path / "values.f16", "wb") as file:
        for _ in range(5):  # of equal documents the first is found
            part.tofile(file)
    environment = os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "values.f16")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    searched, copied, *docs = map(int, done.stdout.split())
    assert docs == [100 * row for row in range(QUERIES)]
    assert searched < BLOCKS < 0.25 * copied, (searched, copied)
    assert copied > 5 * part.nbytes
