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
LIMITS = EXPECTED["gate"]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("index_gate", "index_measures", "index_counts"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("index_gate")


@pytest.mark.slow
def test_sizes_and_ratios_are_within_their_limits(gate: ModuleType, tmp_path: Path):
    found = gate.measure(tmp_path)
    assert found.keys() | {"instructions"} == LIMITS.keys()
    wrong = gate.violations(found, LIMITS)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_instructions_are_within_their_limits(gate: ModuleType):
    if (sentence := gate.uncounted(LIMITS)) is not None:
        pytest.skip(sentence)
    wrong = gate.violations({"instructions": gate.index_counts.count()}, LIMITS)
    assert not wrong, "\n".join(wrong)


def measured(gate: ModuleType) -> dict[str, dict[str, float]]:
    return {group: dict(limits["measured"]) for group, limits in LIMITS.items()}


def test_what_was_measured_is_within_its_limits(gate: ModuleType):
    assert gate.violations(measured(gate), LIMITS) == []


def test_a_figure_beyond_its_limit_is_named_with_the_way_out(gate: ModuleType):
    found = measured(gate)
    found["sizes"]["file_bytes_per_token"] *= 1.02
    found["sizes"]["locate_bits_per_token"] *= 0.5
    found["one_by_one_over_batch"]["extend"] *= 0.8
    found["instructions"]["mask_3"] *= 1.06
    wrong = gate.violations(found, LIMITS)
    assert [sentence.split(" is ")[0] for sentence in wrong] == [
        "sizes: file_bytes_per_token",
        "one_by_one_over_batch: extend",
        "instructions: mask_3",
    ]
    counted = LIMITS["instructions"]["measured"]["mask_3"]
    assert (
        f"is {1.06 * counted:.3f}, above its limit of {1.05 * counted:.3f} ({counted:.3f} was measured"
        in wrong[2]
    )
    assert all("renew the limits with `python benchmarks/index_gate.py --renew`" in s for s in wrong)


def test_every_figure_has_a_limit_and_every_limit_a_figure(gate: ModuleType):
    found = measured(gate)
    found["sizes"]["new"] = found["sizes"].pop("locate_bits_per_token")
    wrong = gate.violations(found, LIMITS)
    assert [s.split(";")[0] for s in wrong] == [
        "sizes: locate_bits_per_token is not measured any more",
        "sizes: new has no limit in fm_index_expected.json",
    ]


def test_every_stage_that_is_counted_has_a_limit(gate: ModuleType):
    assert set(LIMITS["instructions"]["measured"]) == set(gate.index_counts.STAGES)


def test_without_valgrind_instructions_are_skipped_with_one_sentence(
    gate: ModuleType, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gate.index_counts.shutil, "which", lambda name: None)
    assert gate.uncounted(LIMITS) == (
        "instructions are not counted, because valgrind and its headers are not installed"
    )


def test_counts_of_another_compiler_are_not_compared(gate: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gate.index_counts, "missing", lambda: None)
    monkeypatch.setattr(gate, "counted_with", lambda: "g++ 99 on x86_64")
    assert "counted with g++ 12 on x86_64 with bmi2 and this is g++ 99 on x86_64" in gate.uncounted(LIMITS)
    monkeypatch.setattr(gate, "counted_with", lambda: LIMITS["instructions"]["counted_with"])
    assert gate.uncounted(LIMITS) is None


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
    monkeypatch.setattr(gate, "counted_with", lambda: "g++ 99 on x86_64")
    monkeypatch.setattr(gate.index_counts, "count", lambda: counts)
    gate.renew()
    renewed = json.loads((tmp_path / "limits.json").read_text())
    assert renewed["gate"]["sizes"]["measured"]["file_bytes_per_token"] == 9.5
    assert renewed["gate"]["instructions"]["measured"]["mask_3"] == 17.4
    assert renewed["gate"]["instructions"]["counted_with"] == "g++ 99 on x86_64"
    assert renewed["corpus"] == EXPECTED["corpus"]
    for group, limits in LIMITS.items():
        assert renewed["gate"][group] | {"measured": 0, "counted_with": 0} == limits | {
            "measured": 0,
            "counted_with": 0,
        }
