"""Every ready-made configuration loads into its dataclass, and evaluations describe the model that was trained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gemkr.answering.config import LLMReaderConfig, ReaderTrainConfig
from gemkr.config.files import has_section, load_config
from gemkr.config.section import Section
from gemkr.evaluation.config import EvalConfig
from gemkr.evaluation.metrics import parse_metrics
from gemkr.models.gemkr.prompt import Template
from gemkr.rerankers.asking import AskingConfig
from gemkr.rerankers.config import RerankerTrainConfig
from gemkr.retrievers.generative.config import GenerativeConfig
from gemkr.retrievers.reranked import RerankedRetriever
from gemkr.training.checkpoints.trained import SHAPING
from gemkr.training.config import PretrainConfig, TrainConfig
from gemkr.training.contrastive.config import ContrastiveConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [ROOT / "gemkr" / "configs", *sorted((ROOT / "benchmarks").glob("*/configs"))]


def files(folder: str, command: str) -> list[Path]:
    """The configurations of a command: those for readers of the paper, the package's, the laboratory's."""
    return [
        path
        for home in (ROOT / folder, *(c / command for c in CONFIGS))
        for path in sorted(home.glob("*.yaml"))
    ]


CONTRASTIVE = [path for path in files("train_configs", "train") if has_section(path, "encoder")]
RERANK = [path for path in files("train_configs", "train") if has_section(path, "rerank")]
PRETRAIN, TRAIN, READER, EVAL = (
    files("pretrain_configs", "pretrain"),
    [path for path in files("train_configs", "train") if path not in (*CONTRASTIVE, *RERANK)],
    files("reader_configs", "reader"),
    files("eval_configs", "eval"),
)


def name(path: Path) -> str:
    return "-".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable without a default that some file names."""
    for path in (*PRETRAIN, *TRAIN, *CONTRASTIVE, *RERANK, *READER, *EVAL):
        for name in re.findall(r"oc\.env:(\w+)\}", path.read_text()):
            monkeypatch.setenv(name, f"/somewhere/{name.lower()}")


@pytest.mark.parametrize("path", [*PRETRAIN, *TRAIN], ids=name)
def test_training_configurations_load_and_name_templates_that_exist(path: Path) -> None:
    config = load_config(path, PretrainConfig if path in PRETRAIN else TrainConfig)
    assert config.output
    template = config.prompt.template if path in PRETRAIN else config.model.prompt.template
    assert template is None or Template.load(template).sections


@pytest.mark.parametrize("path", CONTRASTIVE, ids=name)
def test_encoders_are_evaluated_as_they_were_trained(path: Path) -> None:
    """Under all settings but the checkpoint."""
    trained = load_config(path, ContrastiveConfig)
    encoders = [
        encoder.config
        for other in EVAL
        for section in load_config(other, EvalConfig).retrievers.values()
        if isinstance(encoder := getattr(section.config, "encoder", None), Section)
    ]
    if (
        path.stem == "lamra_ret"
    ):  # evaluated as published: whole, in LamRA's words for pictures, texts to their end
        (ours,) = [e for e in encoders if str(getattr(e, "folder", "")).endswith("LamRA-Ret")]
        same = {name: getattr(trained.encoder.config, name) for name in ("folder", "adapters", "max_tokens")}
        assert replace(ours, document_picture="image", **same) == trained.encoder.config
        return
    ours = [e for e in encoders if (getattr(e, "checkpoint", None) or "").startswith(f"{trained.output}/")]
    assert ours
    assert all(replace(encoder, checkpoint=None) == trained.encoder.config for encoder in ours)


@pytest.mark.parametrize("path", RERANK, ids=name)
def test_rerankers_are_evaluated_as_they_were_trained(path: Path) -> None:
    trained = load_config(path, RerankerTrainConfig)
    rerankers = [
        section.config.reranker.config
        for other in EVAL
        for section in load_config(other, EvalConfig).retrievers.values()
        if isinstance(section.config, RerankedRetriever.Config)
    ]
    models = [(r, r.model) for r in rerankers if isinstance(r, AskingConfig)]
    if path.stem == "lamra_rank":  # evaluated as published: a whole model
        ((ours, model),) = [(r, m) for r, m in models if str(m.base).endswith("LamRA-Rank")]
        model = replace(model, folder=trained.model.folder, lora=trained.model.lora)
    else:
        ((ours, model),) = [
            (r, m) for r, m in models if (m.checkpoint or "").startswith(f"{trained.output}/")
        ]
    assert replace(model, checkpoint=None) == trained.model
    assert ours.max_prompt_tokens == trained.rerank.max_prompt_tokens


@pytest.mark.parametrize("path", READER, ids=name)
def test_readers_answer_in_an_evaluation_with_the_model_that_was_trained(path: Path) -> None:
    trained = load_config(path, ReaderTrainConfig)
    answers = [load_config(other, EvalConfig).answer for other in EVAL]
    readers = [answer.reader.config for answer in answers if answer is not None]
    models = [reader.model for reader in readers if isinstance(reader, LLMReaderConfig)]
    (ours,) = [model for model in models if model.checkpoint.startswith(f"{trained.output}/")]
    for setting in (*SHAPING, "llm", "tokenizer", "train_llm"):
        assert getattr(ours, setting, None) == getattr(trained.model, setting, None), setting


@pytest.mark.parametrize("path", EVAL, ids=name)
def test_evaluation_configurations_load_and_name_what_exists(path: Path) -> None:
    config = load_config(path, EvalConfig)
    parse_metrics(config.metrics)
    assert config.evaluated


@pytest.mark.parametrize("path", EVAL, ids=name)
def test_evaluations_describe_the_model_that_was_trained(path: Path) -> None:
    """The first model exactly; members of an ensemble where a ready-made training configuration writes them."""
    trained = [load_config(path, TrainConfig) for path in TRAIN]
    for section in load_config(path, EvalConfig).retrievers.values():
        if not isinstance(section.config, GenerativeConfig):
            continue
        members = (section.config.model, *section.config.ensemble)
        sources = [
            [t.model for t in trained if model.checkpoint.startswith(f"{t.output}/")] for model in members
        ]
        assert len(sources[0]) == 1
        for model, ours in (
            (model, ours) for model, found in zip(members, sources, strict=True) for ours in found
        ):
            for setting in (*SHAPING, "llm", "tokenizer", "train_llm"):
                assert getattr(model, setting, None) == getattr(ours, setting, None), setting
