"""The gate of CI: sizes, ratios and instruction counts of the index stay within benchmarks/fm_index_expected.json."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
EXPECTED = json.loads((BENCHMARKS / "fm_index_expected.json").read_text())


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("index_gate", "bench_fm_index", "index_counts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("index_gate")


@pytest.mark.slow
def test_sizes_and_ratios_are_within_their_limits(gate: ModuleType, tmp_path: Path):
    limits = gate.limits_of(EXPECTED)
    found = gate.measure(tmp_path)
    assert found.keys() | {"instructions"} == limits.keys()
    wrong = gate.violations(found, limits)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_instructions_are_within_their_limits(gate: ModuleType):
    if (sentence := gate.uncounted(EXPECTED)) is not None:
        pytest.skip(sentence)
    wrong = gate.violations({"instructions": gate.index_counts.count()}, gate.limits_of(EXPECTED))
    assert not wrong, "\n".join(wrong)


def measured(gate: ModuleType) -> dict[str, dict[str, float]]:
    return {group: dict(limits["measured"]) for group, limits in gate.limits_of(EXPECTED).items()}


def test_what_was_measured_is_within_its_limits(gate: ModuleType):
    assert gate.violations(measured(gate), gate.limits_of(EXPECTED)) == []


def test_a_figure_beyond_its_limit_is_named_with_the_way_out(gate: ModuleType):
    found = measured(gate)
    found["sizes"]["file_bytes_per_token"] *= 1.04
    found["sizes"]["locate_bits_per_token"] *= 0.5
    found["one_by_one_over_batch"]["extend"] *= 0.7
    found["instructions"]["mask_3"] *= 1.2
    wrong = gate.violations(found, gate.limits_of(EXPECTED))
    assert [sentence.split(" is ")[0] for sentence in wrong] == [
        "sizes: file_bytes_per_token",
        "one_by_one_over_batch: extend",
        "instructions: mask_3",
    ]
    counted = EXPECTED["instructions"]["counts"]["mask_3"]
    assert (
        f"is {1.2 * counted:.3f}, above its limit of {1.15 * counted:.3f} ({counted:.3f} was measured"
        in wrong[2]
    )
    assert all("renew the limits with `python benchmarks/index_gate.py --renew`" in s for s in wrong)


def test_every_figure_has_a_limit_and_every_limit_a_figure(gate: ModuleType):
    found = measured(gate)
    found["sizes"]["new"] = found["sizes"].pop("locate_bits_per_token")
    wrong = gate.violations(found, gate.limits_of(EXPECTED))
    assert [s.split(";")[0] for s in wrong] == [
        "sizes: locate_bits_per_token is not measured any more",
        "sizes: new has no limit in fm_index_expected.json",
    ]


def test_counts_of_another_compiler_are_not_compared(gate: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gate.index_counts, "missing", lambda: None)
    monkeypatch.setattr(gate, "compiler", lambda: "c++ 99 on x86_64")
    assert "counted with c++ 12 on x86_64 and this is c++ 99 on x86_64" in gate.uncounted(EXPECTED)
    monkeypatch.setattr(gate, "compiler", lambda: EXPECTED["instructions"]["compiler"])
    assert gate.uncounted(EXPECTED) is None
    monkeypatch.setattr(gate.index_counts, "missing", lambda: "no counter")
    assert gate.uncounted(EXPECTED) == "no counter"


def test_the_text_is_the_same_everywhere(gate: ModuleType):
    text, offsets = gate.generated_text(20_000, 100)
    assert (text.dtype, len(text), offsets[0], offsets[-1]) == ("uint16", 20_000, 0, 20_000)
    assert text.max() < gate.VOCABULARY
    assert hashlib.sha256(text.tobytes()).hexdigest()[:16] == "f44ee467b158702c"


def test_renewed_limits_are_the_figures_measured(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "limits.json").write_text(json.dumps(EXPECTED))
    found = measured(gate)
    counts = found.pop("instructions") | {"mask_3": 17.4}
    found["sizes"]["file_bytes_per_token"] = 9.5
    monkeypatch.setattr(gate, "LIMITS", tmp_path / "limits.json")
    monkeypatch.setattr(gate, "measure", lambda folder: found)
    monkeypatch.setattr(gate.index_counts, "missing", lambda: None)
    monkeypatch.setattr(gate, "compiler", lambda: "c++ 99 on x86_64")
    monkeypatch.setattr(gate.index_counts, "count", lambda: counts)
    gate.renew()
    renewed = json.loads((tmp_path / "limits.json").read_text())
    assert renewed["generated_text"]["sizes"]["measured"]["file_bytes_per_token"] == 9.5
    assert renewed["instructions"]["counts"]["mask_3"] == 17
    assert renewed["instructions"]["compiler"] == "c++ 99 on x86_64"
    assert renewed["bounds"] == EXPECTED["bounds"]
