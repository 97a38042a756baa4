"""A build in blocks ends in the same bytes as a build at once, keeps its limit, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_index import image_of

from gemkr.fm_index import FMIndex, IndexBuildError, IndexWriteError, _core, estimate_build
from gemkr.fm_index.build import finished

TOKENS = st.lists(st.integers(0, 6), max_size=20)
REPEATS = st.builds(lambda token, times: [token] * times, st.integers(0, 6), st.integers(0, 60))
PERIODS = st.builds(
    lambda period, times: period * times, st.lists(st.integers(0, 3), max_size=3), st.integers(0, 20)
)
WIDE = st.lists(st.sampled_from([0, 255, 65534, 65535, 65536, 10**6]), max_size=20)
COPIES = st.builds(lambda document, times: [document] * times, TOKENS, st.integers(1, 700))
CORPORA = st.one_of(
    st.lists(st.one_of(TOKENS, REPEATS, PERIODS), min_size=1, max_size=25),
    st.lists(WIDE, min_size=1, max_size=12),
    COPIES,
)


def built(docs: Sequence[Sequence[int]] | list[np.ndarray], block_rows: int, **options) -> bytes:
    """The image of an index built in blocks of so many rows; 0: at once."""
    builder = _core.Builder(0)
    for doc in docs:
        builder.add(doc)
    given = {"sample_rate": 4, "document_array": False, "threads": 1, "context_bits": 4.0, "progress": None}
    index = finished(FMIndex, builder, None, **given | options, block_rows=block_rows)
    return image_of(index)


@settings(max_examples=60, deadline=None)
@given(
    CORPORA,
    st.integers(1, 200),
    st.sampled_from([1, 3, 32]),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([0.0, 4.0, 64.0]),
    st.booleans(),
)
def test_blocks_end_in_the_same_bytes(docs, block_rows, sample_rate, document_array, threads, bits, wide):
    options = {"sample_rate": sample_rate, "document_array": document_array, "context_bits": bits}
    whole = built(docs, 0, **options)
    assert built(docs, block_rows, threads=threads, wide_rows=wide, **options) == whole


def test_more_than_65_535_tokens_in_blocks():
    rng = np.random.default_rng(1)
    tokens = np.r_[rng.permutation(70_000), rng.integers(0, 70_000, 20_000)]
    docs = np.split(tokens, np.unique(rng.integers(0, len(tokens), 900)))
    whole = built(docs, 0, document_array=True)
    for threads, wide in ((1, False), (3, True)):
        assert built(docs, 25_000, document_array=True, threads=threads, wide_rows=wide) == whole


def test_the_estimate_follows_the_limit():
    whole = estimate_build(20_000_000, 100_000)
    assert whole["blocks"] == 1
    assert whole["temporary_bytes"] == 0
    assert whole["least_bytes"] < whole["peak_bytes"]
    for share in (0.99, 0.7, 0.5):
        limit = int(share * whole["peak_bytes"])
        blocks = estimate_build(20_000_000, 100_000, memory_limit=limit)
        assert blocks["blocks"] > 1
        assert blocks["peak_bytes"] <= limit
        assert blocks["seconds"] > whole["seconds"]
    assert estimate_build(20_000_000, 100_000, memory_limit=1)["peak_bytes"] == pytest.approx(
        whole["least_bytes"], rel=0.01
    )


def words(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, offsets) of Zipf-like words with long repeats, as natural corpora have."""
    rng = np.random.default_rng(0)
    tokens = np.minimum(rng.zipf(1.3, rows), 30_000).astype(np.uint16)
    for _ in range(40):
        start, to = rng.integers(0, rows - 3000, 2)
        tokens[to : to + 3000] = tokens[start : start + 3000]
    offsets = np.unique(np.r_[0, rng.integers(0, rows, rows // 150), rows])
    return tokens, offsets


def test_any_limit_and_any_number_of_threads_gives_the_same_file():
    tokens, offsets = words(4_000_000)
    stages: list[str] = []
    told = estimate_build(len(tokens) + len(offsets) - 1, len(offsets) - 1)
    whole = image_of(FMIndex.build_flat(tokens, offsets, threads=2))
    limits = np.linspace(1.1 * told["least_bytes"], 0.99 * told["peak_bytes"], 2).astype(int).tolist()
    for limit, threads in zip(limits, (1, 3)):
        index = FMIndex.build_flat(
            tokens,
            offsets,
            threads=threads,
            memory_limit=limit,
            progress=lambda stage, share: stages.append(stage),
        )
        assert image_of(index) == whole
    assert {"merge", "wavelet matrix", "contexts"} <= set(stages)
    assert any(re.fullmatch(r"block 2 of \d+", stage) for stage in stages)


def test_a_limit_that_is_too_low_is_told_with_the_least_that_works():
    tokens, offsets = words(4_000_000)
    with pytest.raises(IndexBuildError, match="the limit is 9,000,000; raise") as caught:
        FMIndex.build_flat(tokens, offsets, threads=1, memory_limit=9_000_000)
    least = int(re.search(r"at least ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    with pytest.raises(IndexBuildError, match="at least"):
        FMIndex.build_flat(tokens, offsets, threads=1, memory_limit=least - 1)
    stages: set[str] = set()
    FMIndex.build_flat(
        tokens, offsets, threads=1, memory_limit=least, progress=lambda stage, share: stages.add(stage)
    )
    assert "merge" in stages
    FMIndex.build([[1, 2, 3]], threads=1, memory_limit=estimate_build(4, 1)["peak_bytes"])
    with pytest.raises(IndexBuildError, match="memory_limit is 0"):
        FMIndex.build([[1]], memory_limit=0)


def test_one_long_document_cannot_be_cut():
    tokens = np.arange(3_000_000) % 1000
    with pytest.raises(
        IndexBuildError, match=r"3,000,001 rows takes at least 31,79\d,\d+ bytes, even in blocks"
    ):
        FMIndex.build_flat(tokens, np.array([0, len(tokens)]), threads=1, memory_limit=20_000_000)


PEAK = """
import sys
import numpy as np
from gemkr.fm_index import FMIndex
def memory(name):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(name))
tokens, offsets = np.load(sys.argv[1]), np.load(sys.argv[2])
before = memory("VmRSS")
FMIndex.build_flat(tokens, offsets, threads=1, memory_limit=int(sys.argv[3]))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
@pytest.mark.parametrize("kind", ["words", "equal documents"])
def test_the_peak_stays_below_the_limit(tmp_path: Path, kind: str):
    tokens, offsets = words(4_000_000)
    if kind == "equal documents":
        tokens, offsets = np.tile(tokens[:1000], 4000), np.arange(0, 4_000_001, 1000)
    np.save(tmp_path / "tokens.npy", tokens)
    np.save(tmp_path / "offsets.npy", offsets)
    limit = {"words": 29_000_000, "equal documents": 40_600_000}[
        kind
    ]  # the second would do, were it not for ties
    command = [sys.executable, "-c", PEAK, tmp_path / "tokens.npy", tmp_path / "offsets.npy", str(limit)]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak < limit


def test_what_stops_a_build_leaves_no_file(tmp_path: Path):
    docs = [[k % 7, k % 11] for k in range(500)]
    for stop_at in ("block 2", "merge", "wavelet matrix", "contexts"):

        def stop(stage: str, share: float, stop_at: str = stop_at) -> None:
            if stage.startswith(stop_at):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            built(docs, 300, progress=stop, work_folder=tmp_path)
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(
        IndexWriteError, match=r"No such file or directory|cannot make a temporary file.*missing"
    ):
        built(docs, 300, work_folder=tmp_path / "missing")
    unspeakable = tmp_path / os.fsdecode(b"\xff")
    with pytest.raises(IndexWriteError, match=r"No such file|cannot make a temporary file"):
        built(docs, 300, work_folder=unspeakable)
    unspeakable.mkdir()
    assert built(docs, 300, work_folder=unspeakable) == built(docs, 300)


@pytest.mark.slow
def test_the_command_builds_in_blocks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("sentencepiece")
    from toy_text import TEXTS, train_sentencepiece

    from gemkr.cli import main

    tokenizer = train_sentencepiece(tmp_path / "toy.model")
    rng = np.random.default_rng(0)
    corpus = tmp_path / "corpus.csv"
    with corpus.open("w", encoding="utf-8") as file:
        file.write("kid,text\n")
        for k in range(4500):
            text = " ".join(TEXTS[i] for i in rng.integers(0, len(TEXTS), 8))
            file.write(f'{k},"{text}"\n')
    argv = ["index", "build", str(corpus), "--tokenizer", str(tokenizer), "--threads", "1", "-o"]
    (tmp_path / "out").mkdir()
    assert main([*argv, str(tmp_path / "whole.fmi")]) == 0
    assert "of memory, " in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "out/blocks.fmi"), "--memory-limit", "0.01"]) == 0
    told = capsys.readouterr().err
    assert re.search(r"of memory in about \d+ blocks, \d.* of temporary files in .*out, ", told)
    assert "merge" in told
    assert (tmp_path / "out/blocks.fmi").read_bytes() == (tmp_path / "whole.fmi").read_bytes()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["blocks.fmi"]
    assert main([*argv, str(tmp_path / "no.fmi"), "--memory-limit", "0.001"]) == 1
    assert "the limit is 1,000,000; raise the memory limit" in capsys.readouterr().err
    assert not (tmp_path / "no.fmi").exists()


FULL_DISK = """
import resource, sys
from gemkr.fm_index import FMIndex, IndexWriteError, _core
from gemkr.fm_index.build import finished
builder = _core.Builder(0)
for k in range(20000):
    builder.add([k % 97, k % 89])
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    finished(FMIndex, builder, None, 4, False, 1, 4.0, None, work_folder=sys.argv[1], block_rows=9000)
except IndexWriteError as error:
    print(error)
"""


def test_a_full_disk_is_told(tmp_path: Path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.match(
        r"the build's temporary files: cannot write a temporary file in .*: File too large; ", done.stdout
    )
    assert list(tmp_path.iterdir()) == []


ENDLESS_BUILDS = """
import os, sys
from gemkr.fm_index import FMIndex, _core
from gemkr.fm_index.build import finished
print("ready", flush=True)
while True:
    builder = _core.Builder(0)
    for k in range(3000):
        builder.add([k % 97, k % 89])
    folder = os.path.dirname(sys.argv[1])
    finished(FMIndex, builder, None, 4, False, 1, 4.0, None, work_folder=folder, block_rows=1000).save(sys.argv[1])
"""


def test_kill_9_leaves_no_temporary_file_and_a_whole_index(tmp_path: Path):
    path = tmp_path / "x.fmi"
    for wait in (0.003, 0.017, 0.04, 0.09):
        command = [sys.executable, "-c", ENDLESS_BUILDS, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as builder:
            assert builder.stdout is not None
            builder.stdout.readline()
            time.sleep(wait)
            builder.send_signal(signal.SIGKILL)
        left = {p.name for p in tmp_path.iterdir()}
        assert all(name == "x.fmi" or re.fullmatch(r"x\.fmi\.\d+\.part", name) for name in left)
        if path.exists():
            assert FMIndex.load(path, verify=True).n_tokens == 6000
        for name in left - {"x.fmi"}:
            os.unlink(tmp_path / name)
