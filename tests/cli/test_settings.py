"""`gemkr settings`: what it lists is what a configuration file takes."""

from __future__ import annotations

import pytest

from gemkr.answering.config import ReaderTrainConfig
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
    generative = {"kind": "generative", "index": "i", "model": model}
    kinds = {
        "train": (TrainConfig, {"data": {"queries": "q", "clues": "c"}, "rank_loss": {"clues": "j"}}),
        "pretrain": (PretrainConfig, {"corpus": "c", "embeddings": {}}),
        "reader": (ReaderTrainConfig, {"data": {"queries": "q", "run": "r", "corpus": "c"}}),
        "eval": (
            EvalConfig,
            {
                "answer": {"reader": {"kind": "llm", "model": model}},
                "queries": "q",
                "corpus": "c",
                "retrievers": {"generative": generative, "bm25": "bm25"},
            },
        ),
    }
    for name, (kind, values) in kinds.items():
        values = values if name not in ("train", "reader") else values | {"model": model}
        whole = to_mapping(from_mapping(values | {"output": "o"}, kind, name))
        inside = {
            "retrievers.generative",
            "retrievers.bm25",
            "retrievers.generative.scoring.inside_span.kind",
        }
        assert flat(whole) - inside <= listed(name, capsys).keys()
        assert len(flat(whole)) > 12


def test_types_defaults_and_what_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    train, pretrain = listed("train", capsys), listed("pretrain", capsys)
    assert train["data.queries"] == "path  (required)"
    assert train["epochs"] == "whole number, at least 1 = 5"
    assert train["optimizer.lr"] == "number, above 0 = 6e-05"
    assert pretrain["optimizer.lr"] == "number, above 0 = 0.002"
    assert pretrain["further"] == "list of path = []"
    assert train["rank_loss"] == "a section or null = null"
    evaluation = listed("eval", capsys)
    assert evaluation["retrievers"].startswith("by name, a section of a kind (generative, ")
    assert evaluation["retrievers.generative.index"] == "path  (required)"
    assert evaluation["retrievers.generative.scoring.inside_span"].endswith("or module:Class) = bm25")
    assert evaluation["retrievers.fusion.rrf_k"] == "number, at least 0 = 60.0"


def test_settings_given_as_options_are_told_how(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["eval", "eval_configs/small.yaml", "--queries", "f.jsonl"])
    assert stop.value.code == 2
    assert "--queries f.jsonl; settings are given as key=value" in capsys.readouterr().err
