"""The benchmark's checks: what they expect is what they measure, and what is out of bounds is printed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
BOUNDS = json.loads((BENCHMARKS / "fm_index_expected.json").read_text())["corpus"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("bench_fm_index", "index_measures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("bench_fm_index")


def results(slow: float = 1.0) -> dict:
    blocks = {"cpu_s": 2.0, "peak_bytes_per_token": 3.0, "limit_bytes_per_token": 5.0}
    state = {"mask_ms_1": 0.5, "extend_batch_us": 0.1}
    sdsl = {"build_cpu_s": 20.0 / slow, "bits_per_token": 23.5, "locate": 50.0}
    return {
        "size": {"search_and_next": 16.7, "locate": 2.0, "file": 18.7},
        "build": {1: {"cpu_s": 1.0, "peak_bytes_per_token": 8.4}},
        "build_in_blocks": {"0.6": blocks, "0.8": blocks},
        "open_ms": 0.02,
        "row_us": 2.0,
        "states": dict.fromkeys((1, 3, 8), state),
        "peers": {"sdsl": sdsl | {str(k): {"mask_ms": 200.0, "extend_p50": 1.5} for k in (1, 3, 8)}},
    }


def test_every_bound_is_a_ratio_that_is_measured(bench: ModuleType):
    assert set(BOUNDS["at_most"]) | set(BOUNDS["at_least"]) <= set(bench.ratios(results()))


def test_what_is_out_of_bounds_is_printed(bench: ModuleType, capsys: pytest.CaptureFixture[str]):
    assert bench.check(results(), BOUNDS) == 0
    assert capsys.readouterr().err == ""
    assert bench.check(results(slow=10), BOUNDS) == 1
    assert capsys.readouterr().err == "out of bounds: sdsl_build_ratio is 2.000, expected at least 6.0\n"
    large = results()
    large["size"]["search_and_next"] = 17.5
    assert bench.check(large, BOUNDS) == 1
    assert "bits_search_and_next is 17.500, expected at most 17.0" in capsys.readouterr().err


def test_without_sdsl_one_sentence_is_printed(bench: ModuleType, capsys: pytest.CaptureFixture[str]):
    assert bench.check(results() | {"peers": {"sdsl": None}}, BOUNDS) == 0
    assert "ratios to SDSL are not compared, because it did not run" in capsys.readouterr().out
