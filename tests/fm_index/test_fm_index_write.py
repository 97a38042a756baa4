"""Writing an index file: whatever happens, the old file or the whole new one stands under the name."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_index import toy_index

from gemkr.fm_index import FMIndex, IndexWriteError

FULL_DISK = """
import resource, sys
from gemkr.fm_index import FMIndex, IndexWriteError
index = FMIndex.build([[k % 97, k % 89] for k in range(20000)])
resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000))
try:
    index.save(sys.argv[1])
except IndexWriteError as error:
    print(error)
"""


def test_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    saved = tmp_path / "toy.fmi"
    toy_index().save(saved)
    before = saved.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, saved], capture_output=True, text=True, check=True
    )
    assert re.match(r"cannot write index .*toy\.fmi \([\d,]+ bytes\): ", done.stdout)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["toy.fmi"]


def test_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(IndexWriteError, match="No such file or directory"):
        toy_index().save(tmp_path / "no" / "x.fmi")


def test_name_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(IndexWriteError, match="Not a directory"):
        toy_index().save(tmp_path / "file" / "x.fmi")
    with pytest.raises(IndexWriteError, match="File name too long"):
        toy_index().save(tmp_path / ("x" * 250))


ENDLESS_SAVES = """
import sys
from gemkr.fm_index import FMIndex
one, two = (FMIndex.build([[k % m, k % 89] for k in range(3000)]) for m in (11, 97))
print("ready", flush=True)
while True:
    one.save(sys.argv[1])
    two.save(sys.argv[1])
"""


def test_kill_9_during_writes_leaves_a_whole_file(tmp_path: Path):
    path = tmp_path / "x.fmi"
    hashes = {FMIndex.build([[k % m, k % 89] for k in range(3000)]).corpus_hash for m in (11, 97)}
    for seed in range(4):
        with subprocess.Popen([sys.executable, "-c", ENDLESS_SAVES, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while not path.exists():
                time.sleep(0.001)
            time.sleep(random.Random(seed).random() * 0.05)
            writer.send_signal(signal.SIGKILL)
        assert FMIndex.load(path, verify=True).corpus_hash in hashes
