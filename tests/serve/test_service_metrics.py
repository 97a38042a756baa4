"""Figures of several workers in one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gemkr.serve.metrics import forget_dead_workers


def test_what_waited_in_a_killed_worker_waits_no_more(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    names = [f"gauge_livesum_{dead.pid}.db", f"counter_{dead.pid}.db", f"gauge_livesum_{os.getpid()}.db"]
    for name in names:
        (tmp_path / name).touch()
    forget_dead_workers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
