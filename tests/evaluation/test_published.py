"""docs/published.yaml: the figures of the tasks give the averages that are published, and name what the configurations name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.metrics import parse_metrics

ROOT = Path(__file__).resolve().parents[2]
FIGURES = yaml.safe_load((ROOT / "docs" / "published.yaml").read_text(encoding="utf-8"))
MBEIR = FIGURES["mbeir"]


@pytest.mark.parametrize(
    ("model", "pool", "average"),
    [
        ("clip_sf", "local", 50.2),
        ("clip_sf", "union", 47.5),
        ("blip_ff", "local", 46.5),
        ("blip_ff", "union", 44.3),
    ],
)
def test_tasks_give_the_averages(model: str, pool: str, average: float) -> None:
    values = [task[model][pool] for task in MBEIR["tasks"].values()]
    assert len(values) == 16
    assert round(100 * sum(values) / 16, 1) == average == MBEIR["average"][model][pool]


def test_tasks_are_those_of_the_configuration() -> None:
    config = load_config(find_config("mbeir", "eval"), EvalConfig)
    assert list(MBEIR["tasks"]) == list(config.pools)
    wanted = set(MBEIR["metric"]) - {"default"}
    assert wanted == {task for task in MBEIR["tasks"] if task.startswith("fashion")}
    assert {str(metric) for metric in parse_metrics(config.metrics)} >= set(MBEIR["metric"].values())
    assert set(MBEIR["average"]) <= set(config.retrievers)


def numbers(value: Any) -> Iterator[float]:
    for inner in value.values() if isinstance(value, dict) else [value]:
        yield from numbers(inner) if isinstance(inner, dict) else [inner]


def test_shares_and_per_cent_are_not_mixed() -> None:
    assert all(0 < value < 1 for value in numbers(MBEIR["tasks"]))
    assert all(20 < value < 100 for part in ("average", "papers") for value in numbers(MBEIR[part]))
    sets = set(FIGURES["m2kr"]["k"])
    for size in "glb":
        found = FIGURES["m2kr"][f"preflmr_{size}"]
        assert set(found["recall"]) == sets
        assert all(0 < value < 1 for value in numbers(found))
        assert all(found["pseudo"][name] > found["recall"][name] for name in found["pseudo"])
    assert all(20 < v < 100 for name, v in FIGURES["mmeb"].items() if name != "metric" for v in numbers(v))


def test_a_group_lies_between_its_parts() -> None:
    for row in (FIGURES["mmeb"][f"vlm2vec_qwen2_vl_{size}"] for size in ("2b", "7b")):
        assert row["out_of_distribution"] < row["overall"] < row["in_distribution"]


def test_sets_of_mmeb_are_those_of_the_configuration() -> None:
    """And their means, in per cent, are near the model card's, which come from another run of the same model."""
    groups = load_config(find_config("mmeb", "eval"), EvalConfig).groups
    sets, card = FIGURES["mmeb_sets"]["vlm2vec_qwen2_vl_2b"], FIGURES["mmeb"]["vlm2vec_qwen2_vl_2b"]
    named = [one for group in ("in_distribution", "out_of_distribution") for one in groups[group]]
    assert sorted(sets) == sorted(named)
    assert len(sets) == 36
    assert round(sum(sets.values()) / 36, 3) == 0.597
    for group, members in groups.items():
        assert 100 * sum(sets[one] for one in members) / len(members) == pytest.approx(card[group], abs=1.5)
