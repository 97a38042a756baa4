"""An index from parts is that of the whole, byte for byte, also where its text waits in a file; rows beyond 2^31."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_index import image_of

from gemkr.fm_index import FMIndex, IndexBuildError, IndexWriteError, _core, collect, estimate_build
from gemkr.fm_index.build import finished

ROOT = Path(__file__).resolve().parents[2]
CORPORA = st.lists(
    st.lists(st.sampled_from([0, 1, 2, 3, 255, 65533, 65534, 65535, 65536, 10**6]), max_size=20), max_size=20
)


def parts_of(docs: list[list[int]], sizes: list[int]) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    parts, at = [], 0
    for size in [*sizes, len(docs)]:
        some = docs[at : at + size]
        tokens = np.array([token for doc in some for token in doc], dtype=np.uint32)
        lengths = np.array([len(doc) for doc in some], dtype=np.int64)
        parts.append((tokens, lengths, [f"d{at + k}" for k in range(len(some))]))
        at += size
    return parts


@settings(max_examples=60, deadline=None)
@given(
    CORPORA,
    st.lists(st.integers(0, 7), max_size=6),
    st.sampled_from([65534, 65535, 65536, 65537, 10**6 + 1, None]),
    st.integers(1, 300),
    st.sampled_from([0, 9]),
)
def test_parts_end_in_the_same_bytes(docs, sizes, vocab_size, held, block_rows):
    docs = [[token for token in doc if token < (vocab_size or 10**9)] for doc in docs]
    whole = FMIndex.build(
        docs, [f"d{k}" for k in range(len(docs))], vocab_size=vocab_size, sample_rate=4, threads=1
    )
    builder = _core.Builder(vocab_size or 0, held, "/tmp")
    for tokens, lengths, doc_ids in parts_of(docs, sizes):
        builder.add_flat(tokens, np.concatenate([[0], np.cumsum(lengths)]))
        builder.expect_ids()
        for doc_id in doc_ids:
            builder.add_id(doc_id)
    built = finished(FMIndex, builder, None, 4, False, 1, 4.0, None, block_rows=block_rows)
    assert image_of(built) == image_of(whole)


def test_parts_under_a_limit_are_planned_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "HELD_BYTES", 1 << 16)
    rng = np.random.default_rng(0)
    docs = [rng.zipf(1.3, 400).clip(1, 3000).tolist() for _ in range(1500)]
    ids = [f"d{k}" for k in range(len(docs))]
    plans: list[dict] = []
    limit = 12_000_000
    built = FMIndex.build_parts(
        iter(parts_of(docs, [100] * 15)),
        vocab_size=3001,
        threads=1,
        memory_limit=limit,
        work_folder=tmp_path,
        planned=plans.append,
    )
    assert image_of(built) == image_of(FMIndex.build(docs, ids, vocab_size=3001, threads=1))
    (plan,) = plans
    assert plan["peak_bytes"] <= limit
    assert list(tmp_path.iterdir()) == []


COLLECT = """
import resource, sys
import numpy as np
from gemkr.fm_index import _core
tokens = np.arange(400_000, dtype=np.uint16) % 1000
offsets = np.array([0, len(tokens)])
builder = _core.Builder(1000, 1 << 20, sys.argv[1])
builder.add_flat(tokens, offsets)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(79):
    builder.add_flat(tokens, offsets)
assert builder.rows == 80 * 400_001
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss counts kilobytes on Linux")
def test_tokens_beyond_the_limit_lie_in_no_memory(tmp_path: Path) -> None:
    """64 MB of tokens come in while the process grows by less than 8."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8_000
    assert list(tmp_path.iterdir()) == []


def test_parts_that_cannot_be_taken(tmp_path: Path) -> None:
    twice = [*parts_of([[1], [2]], []), *parts_of([[3]], [])]
    with pytest.raises(IndexBuildError, match="document id 'd0' is given to document 0 and to document 2"):
        FMIndex.build_parts(twice, vocab_size=9)
    with pytest.raises(IndexBuildError, match="document 1 holds token 9"):
        FMIndex.build_parts(parts_of([[1], [9]], []), vocab_size=9)
    with pytest.raises(IndexWriteError, match="name another work_folder"):
        FMIndex.build_parts(
            parts_of([[1]], []), vocab_size=9, memory_limit=10**9, work_folder=tmp_path / "none"
        )
    assert len(FMIndex.build_parts([], vocab_size=9)) == 0


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_rows_beyond_32_bits(tmp_path: Path) -> None:
    csrc = ROOT / "gemkr" / "fm_index" / "csrc"
    source = ROOT / "tests" / "cpp" / "test_large_rows.cpp"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-O1", "-I", str(csrc)]
    subprocess.run(
        ["g++", *flags, str(source), str(csrc / "spill.cpp"), "-o", str(tmp_path / "rows")], check=True
    )
    done = subprocess.run(
        [str(tmp_path / "rows"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_three_billion_rows_are_planned_in_blocks() -> None:
    for limit in (12 * 10**9, 18 * 10**9):
        plan = estimate_build(3_021_000_000, 21_000_000, memory_limit=limit)
        assert plan["least_bytes"] <= plan["peak_bytes"] <= limit
        assert 2 <= plan["blocks"] <= 255
        assert plan["temporary_bytes"] > 2 * 3_000_000_000
