"""Building a centroid index on the disk: whatever stops it, the next one goes on and writes the bytes of one that was never stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from steps_of_files import STEPS
from token_twins import clustered, drawn

from gemkr import progress
from gemkr.errors import DataError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index import centroid_build, token_parts
from gemkr.vector_index.centroid_index import CentroidIndex
from gemkr.vector_index.live_tokens import LiveTokens
from gemkr.vector_index.manifest import part_folder
from gemkr.vector_index.npy_files import GrowingArray, write_array
from gemkr.vector_index.token_codec import ResidualCodec
from gemkr.vector_index.token_parts import lists_of

CONFIG = CentroidIndex.Config(lists=8, bits=2)


class Stopped(BaseException):
    """Raised in place of a file operation."""


class Steps:
    """Counts file operations, and raises at one of them."""

    def __init__(self) -> None:
        self.watching, self.done, self.at, self.error = False, 0, -1, Stopped()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple) -> None:
        if not self.watching:
            return
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if event in STEPS or writes:
            self.count()

    def count(self, *_: object) -> None:
        if not self.watching:
            return
        self.done += 1
        if self.done == self.at:
            raise self.error

    @contextmanager
    def stop(self, at: int, error: BaseException) -> Iterator[None]:
        self.watching, self.done, self.at, self.error = True, 0, at, error
        try:
            yield
        finally:
            self.watching = False


@pytest.fixture(scope="module")
def steps() -> Steps:
    return Steps()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (centroid_build, token_parts):
        monkeypatch.setattr(module, "BLOCK", 64)
    monkeypatch.setattr(centroid_build, "KEPT_BLOCKS", 2)


def segments() -> LiveTokens:
    """Three, the second without a token."""
    random = np.random.default_rng(2)
    empty = TokenVectors(np.empty((0, 16), np.float16), np.zeros(3, np.int64))
    none = np.zeros(0, np.int64)
    return LiveTokens([(clustered(random, 40), none), (empty, none), (clustered(random, 20), none)], 16)


def corpus() -> TokenVectors:
    return clustered(np.random.default_rng(1), 40)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, hidden or not."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def whole(
    tokens: TokenVectors | LiveTokens, folder: Path, config: CentroidIndex.Config = CONFIG
) -> dict[str, bytes]:
    """The files of a folder in which an index was built without a stop."""
    folder.mkdir()
    assert CentroidIndex.prepare(config, tokens, folder)
    return files_of(folder)


@pytest.mark.parametrize("tokens", [corpus(), segments()], ids=["corpus", "segments"])
def test_the_disk_receives_what_memory_would(tokens: TokenVectors | LiveTokens, tmp_path: Path) -> None:
    found = whole(tokens, tmp_path / "whole")
    path = CentroidIndex.path(CONFIG, tokens, tmp_path / "saved")
    CentroidIndex.build(CONFIG, tokens).save(path)
    assert found == files_of(tmp_path / "saved")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("tokens", "error", "every"),
    [(corpus(), Stopped(), 1), (segments(), Stopped(), 3), (corpus(), FULL, 3)],
    ids=["corpus", "segments", "full"],
)
def test_a_stop_anywhere_changes_no_byte(
    tokens: TokenVectors | LiveTokens,
    error: BaseException,
    every: int,
    tmp_path: Path,
    steps: Steps,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, here = whole(tokens, tmp_path / "whole"), tmp_path / "here"
    monkeypatch.setattr(os, "fsync", steps.count)
    path, said = CentroidIndex.path(CONFIG, tokens, here), []
    for at in range(1, 1000, every):
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        try:
            with steps.stop(at, error):
                CentroidIndex.prepare(CONFIG, tokens, here)
        except (Stopped, DataError) as raised:
            said.append(str(raised))
        ended = steps.done < at
        if not path.exists():
            with pytest.raises(DataError, match="have no centroid index of these settings"):
                CentroidIndex.from_config(CONFIG, tokens, here)
        CentroidIndex.prepare(CONFIG, tokens, here)
        assert files_of(here) == expected, at
        if ended:
            break
    assert len(said) > 60 // every
    if error is FULL:
        sentence = r"\S.* cannot be written \(No space left on device\); (make room|free).*"
        assert all(re.fullmatch(sentence, each) for each in said)


def test_what_was_finished_is_not_made_again(
    tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop after each call of what takes the time; each part of the work is done once, and at most two blocks again."""
    caplog.set_level(logging.INFO)
    calls: list[str] = []
    stop_after = 0

    def counted(name: str, call: Callable) -> Callable:
        def made(*args: object, **settings: object) -> object:
            calls.append(name)
            if len(calls) == stop_after:
                raise Stopped
            return call(*args, **settings)

        return made

    monkeypatch.setattr("faiss.Kmeans.train", counted("k-means", __import__("faiss").Kmeans.train))
    monkeypatch.setattr(ResidualCodec, "encoded", counted("encoded", ResidualCodec.encoded))
    tokens = corpus()
    expected = whole(tokens, tmp_path / "whole")
    blocks = calls.count("encoded")
    assert (calls.count("k-means"), blocks) == (6, -(-len(tokens.values) // 64))
    total = len(calls)
    for stop_after in range(1, total + 1):
        calls.clear()
        caplog.clear()
        here = tmp_path / f"here-{stop_after}"
        here.mkdir()
        with pytest.raises(Stopped):
            CentroidIndex.prepare(CONFIG, tokens, here)
        calls.append("again")
        CentroidIndex.prepare(CONFIG, tokens, here)
        assert files_of(here) == expected
        assert calls.count("k-means") == 6 + (stop_after <= 6)
        assert calls.count("encoded") <= blocks + 2
        said = " ".join(caplog.messages)
        if 1 < stop_after <= 6:
            assert f"goes on: {stop_after - 1} of 6 iterations of k-means are there" in said
        if stop_after > 6:
            safe = (stop_after - 7) // 2 * 128
            assert (
                f"goes on: the centroids and {safe:,} of {len(tokens.values):,} encoded tokens are there"
                in said
            )


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from token_twins import clustered
from gemkr.vector_index import centroid_build
from gemkr.vector_index.centroid_index import CentroidIndex
from gemkr.vector_index.token_codec import ResidualCodec

centroid_build.BLOCK, centroid_build.KEPT_BLOCKS = 64, 2
encoded, count = ResidualCodec.encoded, 0

def slow(*args):
    global count
    count += 1
    if count == 4:
        print("encoding", flush=True)
        time.sleep(600)
    return encoded(*args)

ResidualCodec.encoded = slow
tokens = clustered(np.random.default_rng(1), 40)
CentroidIndex.prepare(CentroidIndex.Config(lists=8, bits=2), tokens, Path(sys.argv[1]))
"""


def test_kill_9_while_tokens_are_encoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Meanwhile another process is told to wait."""
    caplog.set_level(logging.INFO)
    tokens, here = corpus(), tmp_path / "here"
    expected = whole(tokens, tmp_path / "whole")
    here.mkdir()
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(here)],
        env=os.environ | {"PYTHONPATH": f"{root}:{root / 'tests'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout.readline() == b"encoding\n"
        before = files_of(here)
        with pytest.raises(
            DataError, match=r"another process is building the index .*; wait until it has ended"
        ):
            CentroidIndex.prepare(CONFIG, tokens, here)
        assert files_of(here) == before
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert CentroidIndex.prepare(CONFIG, tokens, here)
    assert f"128 of {len(tokens.values)} encoded tokens are there" in " ".join(caplog.messages)
    assert files_of(here) == expected


def half_built(tokens: TokenVectors, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a build that was stopped while it encoded."""
    encoded, calls = ResidualCodec.encoded, []

    def stopped(self: ResidualCodec, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        calls.append(1)
        if len(calls) == 4:
            raise Stopped
        return encoded(self, values)

    with monkeypatch.context() as patched:
        patched.setattr(ResidualCodec, "encoded", stopped)
        with pytest.raises(Stopped):
            CentroidIndex.prepare(CONFIG, tokens, folder)
    place = part_folder(CentroidIndex.path(CONFIG, tokens, folder))
    assert json.loads((place / "building.json").read_text())["done"]["tokens"] == 128
    return place


def test_a_build_under_other_settings_is_not_used_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, here = corpus(), tmp_path / "here"
    other = CentroidIndex.Config(lists=8, bits=4)
    expected = whole(tokens, tmp_path / "whole", other)
    here.mkdir()
    place = half_built(tokens, here, monkeypatch)
    with open(place / ".lock", "ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert CentroidIndex.prepare(other, tokens, here)
        assert place.is_dir()  # somebody is at it
    shutil.rmtree(CentroidIndex.path(other, tokens, here))
    assert CentroidIndex.prepare(other, tokens, here)
    assert files_of(here) == expected


@pytest.mark.parametrize(
    "fault",
    ["of other tokens or settings", "does not hold its first 128 rows", "No such file", "Expecting", "far"],
)
def test_a_build_that_does_not_fit_is_made_anew(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of other tokens of the same number, of another way to build, or damaged."""
    tokens, here = corpus(), tmp_path / "here"
    here.mkdir()
    place = half_built(tokens, here, monkeypatch)
    record = json.loads((place / "building.json").read_text())
    codes = place / "index" / "part-0000" / "codes.npy"
    if fault.startswith("of other tokens"):
        tokens = TokenVectors(-tokens.values, tokens.offsets)
    elif fault.startswith("does not hold"):
        codes.write_bytes(codes.read_bytes()[:200])
    elif fault == "No such file":
        codes.unlink()
    elif fault == "Expecting":
        (place / "building.json").write_text("{")
    else:
        del record["done"]["codec"]["far"]
        (place / "building.json").write_text(json.dumps(record))
    (place / "stray").write_text("")
    assert CentroidIndex.prepare(CONFIG, tokens, here)
    assert re.search(rf"cannot go on \(.*{fault}.*\); it is built anew", " ".join(caplog.messages))
    assert files_of(here) == whole(tokens, tmp_path / "whole")


def test_each_stage_says_how_long_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    for module in ("token_sample", "token_codec"):
        monkeypatch.setattr(f"gemkr.vector_index.{module}.BLOCK", 16)
    CentroidIndex.prepare(CONFIG, corpus(), tmp_path)
    lines = re.split(r"[\r\n]+", capsys.readouterr().err)
    for stage in ("sample", "k-means", "assigning the sample", "encoding", "inverted lists"):
        own = [line for line in lines if line.startswith(f"{stage}:")]
        assert own[0].startswith(f"{stage}:   0%")
        assert own[-1].startswith(f"{stage}: 100%")
        assert any(re.search(r"\s[1-9]\d?%.*\[\d\d:\d\d<\d\d:\d\d, ", line) for line in own), own


def test_an_index_that_is_there_clears_what_a_kill_left(tmp_path: Path) -> None:
    tokens = corpus()
    expected = whole(tokens, tmp_path / "whole")
    place = part_folder(CentroidIndex.path(CONFIG, tokens, tmp_path / "whole"))
    place.mkdir()
    (place / "building.json").write_text("{}")
    assert not CentroidIndex.prepare(CONFIG, tokens, tmp_path / "whole")
    assert files_of(tmp_path / "whole") == expected
    assert not place.exists()


@pytest.mark.parametrize("seed", range(6))
def test_lists_are_those_of_a_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    tokens = drawn(random, [*random.integers(0, 9, 30).tolist(), 0], 2)
    centroids = int(random.integers(1, 70))
    codes = random.integers(0, centroids, len(tokens.values)).astype(np.uint16)
    told: list[int] = []
    ends, docs = lists_of(codes, tokens.offsets, centroids, told.append)
    assert (ends.dtype, docs.dtype, sum(told)) == (np.int64, np.uint32, len(codes))
    for centroid in range(centroids):
        own = {doc for doc in range(31) if centroid in codes[tokens.offsets[doc] : tokens.offsets[doc + 1]]}
        assert docs[ends[centroid] : ends[centroid + 1]].tolist() == sorted(own)


@pytest.mark.parametrize("shape", [(5,), (5, 3), (0, 3), (0,)])
def test_files_are_those_of_numpy(shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    np.save(tmp_path / "expected.npy", array)
    write_array(tmp_path / "once.npy", array)
    for cut in range(len(array) + 1):
        growing = GrowingArray(tmp_path / "grown.npy", shape, np.uint16, 0)
        growing.add(array[:cut])
        growing.keep()
        growing.add(array[:1])  # not kept
        growing.close()
        growing = GrowingArray(tmp_path / "grown.npy", shape, np.uint16, cut)
        growing.add(array[cut:])
        growing.keep()
        growing.close()
        for name in ("once", "grown"):
            assert (tmp_path / f"{name}.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
