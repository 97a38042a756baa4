"""Settings out of their range: one sentence that names the setting, its range and its value."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gemkr.config.files import load_config
from gemkr.config.ranges import require_ranges
from gemkr.errors import ConfigError, DataError
from gemkr.evaluation.config import EvalConfig
from gemkr.models.gemkr.config import ModelConfig
from gemkr.training.config import TrainConfig, TrainDataConfig
from gemkr.training.mining.mine import MiningSettings

GENERATIVE = "corpus: c\nretrievers:\n  gemkr: {kind: generative, index: i, model: {llm: l}}\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("k=0", "k must be at least 1, it is 0"),
        ("limit=-1", "limit must be at least 1, it is -1"),
        ("cards=-1", "cards must be at least 0"),
        ("seed=-1", "seed must be between 0 and 4294967295"),
        ("retrievers.gemkr.decoding.batch_size=0", "decoding: batch_size must be at least 1"),
        ("retrievers.gemkr.decoding.document_penalty=-.inf", "document_penalty must be a finite number"),
        ("retrievers.gemkr.decoding.length_penalty=.nan", "length_penalty must be a finite number"),
        (
            "retrievers.gemkr.decoding.length_penalty=1e9",
            "length_penalty must be between -10 and 10, it is 1000000000.0",
        ),
        ("retrievers.gemkr.decoding.length_penalty=-1e9", "length_penalty must be between -10 and 10"),
        ("retrievers.gemkr.scoring.alpha=-1", "alpha must be between 0 and 10, it is -1.0"),
        ("retrievers.gemkr.scoring.alpha=nan", "alpha must be a finite number, it is nan"),
    ],
)
def test_evaluation_settings_out_of_range(setting: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "eval.yaml"
    path.write_text(GENERATIVE)
    with pytest.raises(ConfigError, match=said):
        load_config(path, EvalConfig, [setting])


def test_a_document_can_be_forbidden_to_a_second_clue(tmp_path: Path) -> None:
    path = tmp_path / "eval.yaml"
    path.write_text(GENERATIVE)
    config = load_config(path, EvalConfig, ["retrievers.gemkr.decoding.document_penalty=.inf"])
    assert config.retrievers["gemkr"].config.decoding.document_penalty == math.inf


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("workers=-1", "workers must be at least 0"),
        ("optimizer.lr=0", "lr must be above 0, it is 0.0"),
        ("optimizer.min_lr=-1", "min_lr must be at least 0"),
        ("optimizer.beta2=1", "beta2 must be between 0 and 1, without both, it is 1.0"),
        ("optimizer.max_grad_norm=0", "max_grad_norm must be above 0, it is 0.0"),
        ("optimizer.max_grad_norm=inf", "max_grad_norm must be a finite number"),
        ("data.hide_regions=2", "hide_regions must be between 0 and 1, it is 2.0"),
        ("max_steps=0", "max_steps must be at least 1"),
        (f"seed={10**20}", "seed must be between 0 and 4294967295"),
    ],
)
def test_training_settings_out_of_range(setting: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("model: {llm: m}\ndata: {queries: q, clues: c}\noutput: o\n")
    assert load_config(path, TrainConfig).max_steps is None
    with pytest.raises(ConfigError, match=said):
        load_config(path, TrainConfig, [setting])


def test_numbers_that_did_not_come_from_a_file_are_checked_by_their_annotations() -> None:
    require_ranges(MiningSettings())
    with pytest.raises(DataError, match="per_question must be at least 1, it is 0"):
        MiningSettings(per_question=0)
    whole = TrainConfig(model=ModelConfig("m"), data=TrainDataConfig("q", "c"), output="o")
    require_ranges(whole)
    with pytest.raises(ConfigError, match="max_steps must be at least 1, it is 0"):
        require_ranges(replace(whole, max_steps=0))
    with pytest.raises(ConfigError, match="hide_regions must be between 0 and 1, it is 2"):
        require_ranges(replace(whole.data, hide_regions=2))
