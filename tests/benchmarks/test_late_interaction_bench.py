"""The benchmark of late interaction, in miniature: every engine has its rows, and exact search finds everything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_late_interaction.py"


def test_engines_are_measured_side_by_side(tmp_path: Path) -> None:
    sizes = ["--documents", "150", "--queries", "4", "-k", "5", "--threads", "1", "--lists", "64"]
    command = [
        sys.executable,
        BENCH,
        *sizes,
        "--engines",
        "exact",
        "centroid 4 bits",
        "-o",
        tmp_path / "out.json",
    ]
    environment = os.environ | {"PYTHONPATH": str(BENCH.parents[1])}
    command += ["--folder", tmp_path / "kept"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    (index,) = (tmp_path / "kept" / "tokens").glob("centroid-*/index.json")
    made = index.stat().st_mtime_ns
    results = {r["engine"]: r for r in json.loads((tmp_path / "out.json").read_text())["results"]}
    assert results["exact"]["rows"][0]["recall"] == pytest.approx(1.0)
    assert results["exact"]["bytes"] == 256
    assert results["centroid 4 bits"]["rows"][0]["recall"] > 0.9
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| engine | setting | recall |")
    assert len(lines) == 2 + 1 + 5
    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "exact answers in" not in again.stderr
    assert index.stat().st_mtime_ns == made
    other = subprocess.run(
        [*command, "--queries", "5"], capture_output=True, text=True, check=False, env=environment
    )
    assert "choose another folder, or delete it" in other.stderr
