"""Every ready-made configuration loads into its dataclass, and evaluations describe the model that was trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.metrics import parse_metrics
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.training.checkpoints.trained import SHAPING
from gemkr.training.config import PretrainConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[2]
TRAIN = sorted((ROOT / "train_configs").glob("*.yaml"))
EVAL = sorted((ROOT / "eval_configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable without a default that some file names."""
    for path in (*TRAIN, *EVAL):
        for name in re.findall(r"oc\.env:(\w+)\}", path.read_text()):
            monkeypatch.setenv(name, f"/somewhere/{name.lower()}")


def train_config(path: Path) -> TrainConfig | PretrainConfig:
    return load_config(path, PretrainConfig if path.stem.endswith("pretrain") else TrainConfig)


@pytest.mark.parametrize("path", TRAIN, ids=lambda path: path.stem)
def test_training_configurations_load(path: Path) -> None:
    assert train_config(path).output


@pytest.mark.parametrize("path", EVAL, ids=lambda path: path.stem)
def test_evaluation_configurations_load_and_name_what_exists(path: Path) -> None:
    config = load_config(path, EvalConfig)
    parse_metrics(config.metrics)
    assert config.evaluated


@pytest.mark.parametrize("path", EVAL, ids=lambda path: path.stem)
def test_evaluations_describe_the_model_that_was_trained(path: Path) -> None:
    trained = [config for config in map(train_config, TRAIN) if isinstance(config, TrainConfig)]
    for section in load_config(path, EvalConfig).retrievers.values():
        if not isinstance(section.config, GenerativeConfig):
            continue
        for model in (section.config.model, *section.config.ensemble):
            (ours,) = [t.model for t in trained if model.checkpoint.startswith(f"{t.output}/")]
            for name in (*SHAPING, "llm", "tokenizer", "train_llm"):
                assert getattr(model, name) == getattr(ours, name), name
