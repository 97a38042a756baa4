"""The GPU script on a CPU: every part in the smallest shapes, what is left when it stops, and the table that it fills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.runner import FIGURES, Part, run
from benchmarks.gpu.scale import DRY
from benchmarks.gpu.table import DOCUMENT, ROWS, UNKNOWN, cards, keep, table, written


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("gpu")
    assert main(["--dry", "--output", str(output), "--commit", "abc1234"]) == 0
    return json.loads((output / FIGURES).read_text())


def test_every_part_is_measured(measured: dict[str, Any]) -> None:
    assert measured["parts"].keys() == PARTS.keys()
    found = {name: part["figures"] for name, part in measured["parts"].items()}
    for shape in ("7b", "1b", "tiny"):
        decoded = found[f"decode_{shape}"]
        assert decoded["host"]["clues"] == decoded["device"]["clues"] > 0
        assert decoded["host"]["steps"] == decoded["device"]["steps"]
        for way in ("search", "graph"):
            assert decoded[way]["agree"] == 1
            assert decoded[way]["queries_per_second"] > 0
        assert (
            min(decoded[name]["queries_per_second"] for name in ("unconstrained", "generate", "reference"))
            > 0
        )
    assert all(found["decode_large"][shape]["clues"] > 0 for shape in ("tiny", "1b", "7b"))
    assert found["profile"]["device"]["waits_per_step"] >= 0
    assert 0.3 < sum(found["profile"]["host"]["shares"].values()) <= 1.0001
    assert found["decode_7b"]["search"]["constraint_ms"] > 0
    assert found["profile"]["search"]["waits_per_step"] >= 0
    for name in ("whole", "checkpointed"):
        figures = found["finetune"][name]
        assert figures["minutes_of_144k"] == pytest.approx(144_000 / figures["samples_per_second"] / 60)
    assert measured["machine"]["dry"]
    assert measured["machine"]["commit"] == "abc1234"


def test_the_table_shows_every_figure(measured: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dry run"):
        keep(measured, tmp_path)
    measured = {
        **measured,
        "machine": {"card": "Some Card", "date": "2026-01-02", "commit": "abc", "dry": False},
    }
    only = {"parts": {"search": measured["parts"]["search"]}, "machine": measured["machine"]}
    assert keep(only, tmp_path).name == "Some-Card.json"
    (card,) = cards(tmp_path)
    assert table([card]).count(UNKNOWN) > len(ROWS) - 1
    keep(measured, tmp_path)
    lines = table(cards(tmp_path)).splitlines()
    assert lines[0] == "| | Some Card, 2026-01-02, abc |"
    assert not [line for line in lines if UNKNOWN in line]
    (shares,) = [line for line in lines if "where a step goes" in line]
    assert shares.count("%") == 4


def test_the_document_holds_what_the_script_writes() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert written(document, cards()) == document


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    measured: list[str] = []

    def part(name: str, *, fails: bool = False) -> Part:
        def measure(scale: object) -> dict[str, Any]:
            measured.append(name)
            if fails and measured.count(name) == 1:
                raise RuntimeError("out of memory\nat some length")
            return {"value": name}

        return Part(measure, 10)

    parts = {"a": part("a"), "b": part("b", fails=True), "c": part("c")}
    times, said = iter([0.0, 0.0, 0.0, 9.0, 9.0, 9.0, 15.0, 55.0]), []
    held = run(parts, DRY, tmp_path, minutes=1, clock=lambda: next(times), say=said.append)
    assert held["parts"]["b"] == {"failed": "RuntimeError: out of memory", "seconds": 6.0}
    assert said[-1] == "c: left out, it takes 10 s and 5 are left"
    assert json.loads((tmp_path / FIGURES).read_text()) == held
    held = run(parts, DRY, tmp_path / "new", minutes=1, done=tmp_path / FIGURES, say=said.append)
    assert measured == ["a", "b", "b", "c"]
    assert [held["parts"][name]["figures"] for name in parts] == [{"value": name} for name in parts]


def test_without_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "gpu: there is no CUDA device here; give --dry for the smallest shapes on a CPU\n"
    )
