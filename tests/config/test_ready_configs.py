"""Every ready-made configuration loads into its dataclass, and evaluations describe the model that was trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.metrics import parse_metrics
from gemkr.retrievers import RETRIEVERS
from gemkr.retrievers.sources import INSIDE_SPAN
from gemkr.training.checkpoints.trained import SHAPING
from gemkr.training.config import PretrainConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[2]
TRAIN = sorted((ROOT / "train_configs").glob("*.yaml"))
EVAL = sorted((ROOT / "eval_configs").glob("*.yaml"))


def has_expert(path: Path) -> bool:
    """Whether a file has an answer expert."""
    return "\nanswer_expert:" in path.read_text()


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
    assert {config.retriever, *config.baselines} <= RETRIEVERS.keys()
    assert config.scoring.inside_span in INSIDE_SPAN
    if config.retriever == "generative":
        assert config.model is not None
        assert config.index is not None


@pytest.mark.parametrize("path", [p for p in EVAL if has_expert(p)], ids=lambda path: path.stem)
def test_an_answer_expert_is_the_opponent_and_can_be_left_out(path: Path) -> None:
    config = load_config(path, EvalConfig)
    assert config.answer_expert.train == config.opponents.train
    kind = "encoder" if config.answer_expert.encoder else "classifier"
    assert getattr(config.answer_expert, kind) == getattr(config.opponents, kind)
    assert load_config(path, EvalConfig, ["answer_expert=null"]).answer_expert is None


@pytest.mark.parametrize("path", EVAL, ids=lambda path: path.stem)
def test_evaluations_describe_the_model_that_was_trained(path: Path) -> None:
    config = load_config(path, EvalConfig)
    if config.model is None or config.model.checkpoint is None:
        return
    trained = [train_config(other) for other in TRAIN]
    (ours,) = [
        t.model
        for t in trained
        if isinstance(t, TrainConfig) and config.model.checkpoint.startswith(f"{t.output}/")
    ]
    for name in (*SHAPING, "llm", "tokenizer", "train_llm"):
        assert getattr(config.model, name) == getattr(ours, name), name
