"""`gemkr settings`: what it lists is what a configuration file takes."""

from __future__ import annotations

import pytest

from gemkr.cli import main
from gemkr.config.files import from_mapping, to_mapping
from gemkr.evaluation.config import EvalConfig
from gemkr.training.config import PretrainConfig, TrainConfig


def listed(kind: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["settings", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(": ", 1) for line in lines if line and line[0] not in "#[")


def flat(values: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in values.items():
        found |= {prefix + key} | (flat(value, f"{prefix}{key}.") if isinstance(value, dict) else set())
    return found


def test_every_key_of_a_whole_configuration_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    model = {"llm": "x", "tower": {}, "text_encoder": {"folder": "e"}}
    kinds = {
        "train": (TrainConfig, {"data": {"queries": "q", "clues": "c"}, "rank_loss": {"clues": "j"}}),
        "pretrain": (PretrainConfig, {"corpus": "c", "embeddings": {}}),
        "eval": (
            EvalConfig,
            {"queries": "q", "corpus": "c", "opponents": {"train": "t"}, "answer_expert": {"train": "t"}},
        ),
    }
    for name, (kind, values) in kinds.items():
        values = values if name == "pretrain" else values | {"model": model}
        whole = to_mapping(from_mapping(values | {"output": "o"}, kind, name))
        assert flat(whole) <= listed(name, capsys).keys()


def test_types_defaults_and_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    train, pretrain = listed("train", capsys), listed("pretrain", capsys)
    assert train["data.queries"] == "text  (required)"
    assert train["epochs"] == "whole number, at least 1 = 5"
    assert train["optimizer.lr"] == "number, above 0 = 6e-05"
    assert pretrain["optimizer.lr"] == "number, above 0 = 0.002"
    assert pretrain["further"] == "list of text = []"
    assert train["rank_loss"] == "a section or null = null"


def test_settings_given_as_options_are_told_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "eval_configs/small.yaml", "--queries", "f.jsonl"])
    assert stop.value.code == 2
    assert "--queries f.jsonl; settings are given as key=value" in capsys.readouterr().err
