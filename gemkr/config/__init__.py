"""Experiments as frozen dataclasses, read from YAML: the names and types of settings, not what they do."""

from __future__ import annotations

from gemkr.config.evaluation import (
    AnswerExpertConfig,
    ClassifierConfig,
    DecodingConfig,
    EncoderClassifierConfig,
    EvalConfig,
    LearnedScorerConfig,
    OpponentsConfig,
    ScoringConfig,
)
from gemkr.config.files import (
    from_mapping,
    load_config,
    load_model_config,
    to_mapping,
)
from gemkr.config.model import (
    LoraConfig,
    ModelConfig,
    PrefixConfig,
    PromptConfig,
    TextEncoderConfig,
    TowerConfig,
    VisualTokensConfig,
)
from gemkr.config.training import (
    EmbeddingsConfig,
    LlamaConfig,
    OptimizerConfig,
    PretrainConfig,
    RankLossConfig,
    TrainConfig,
    TrainDataConfig,
    VocabularyConfig,
)

__all__ = [
    "AnswerExpertConfig",
    "ClassifierConfig",
    "DecodingConfig",
    "EmbeddingsConfig",
    "EncoderClassifierConfig",
    "EvalConfig",
    "LearnedScorerConfig",
    "LlamaConfig",
    "LoraConfig",
    "ModelConfig",
    "OpponentsConfig",
    "OptimizerConfig",
    "PrefixConfig",
    "PretrainConfig",
    "PromptConfig",
    "RankLossConfig",
    "ScoringConfig",
    "TextEncoderConfig",
    "TowerConfig",
    "TrainConfig",
    "TrainDataConfig",
    "VisualTokensConfig",
    "VocabularyConfig",
    "from_mapping",
    "load_config",
    "load_model_config",
    "to_mapping",
]
