"""The benchmark of vector search, in miniature: every engine that is installed has its rows, and exact search finds everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_vectors.py"


def test_engines_are_measured_side_by_side(tmp_path: Path) -> None:
    engines = ["gemkr exact", "gemkr ivf", "gemkr pq", "hnswlib"]
    sizes = [
        "--documents",
        "3000",
        "--width",
        "32",
        "--queries",
        "20",
        "-k",
        "5",
        "--rank",
        "8",
        "--threads",
        "1",
    ]
    command = [sys.executable, BENCH, *sizes, "--engines", *engines, "-o", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=BENCH.parents[1])
    results = {r["engine"]: r for r in json.loads((tmp_path / "out.json").read_text())["results"]}
    assert set(engines[:3]) <= set(results)
    if "hnswlib" not in results:
        assert "hnswlib is not installed and left out" in done.stderr
    assert results["gemkr exact"]["rows"][0]["recall"] == pytest.approx(1.0)
    assert results["gemkr ivf"]["rows"][-1]["recall"] == pytest.approx(1.0)
    recalls = [row["recall"] for row in results["gemkr pq"]["rows"]]
    assert recalls == sorted(recalls)
    assert recalls[-1] > recalls[0] + 0.2
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("| engine | setting | recall |")
    assert len(lines) == 2 + sum(len(result["rows"]) for result in results.values())
