"""Settings of what learns from training queries: two answer classifiers and the learned scorer."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.paths import FilePath
from gemkr.config.ranges import NotNegative, Positive, Seed, Share
from gemkr.models.hf.config import TextEncoderConfig


@dataclass(frozen=True)
class ClassifierConfig:
    """The answer classifier: `networks` averaged bag-of-words networks over the answers that `least_answers` queries of `train` give.

    What is learned is kept in the file `weights` (`python -m benchmarks.okvqa.fit`). Words of fewer than `least_words` training queries are skipped; `word_dropout` leaves out words of a query.
    """

    train: FilePath
    weights: FilePath
    networks: Positive = 2
    hidden: Positive = 256
    epochs: Positive = 12
    batch_size: Positive = 64
    lr: NotNegative = 6e-3
    weight_decay: NotNegative = 0.3
    word_dropout: Share = 0.2
    dropout: Share = 0.5
    least_answers: Positive = 2
    least_words: Positive = 2
    seed: Seed = 0


@dataclass(frozen=True)
class EncoderClassifierConfig:
    """An answer classifier over a pre-trained text encoder, fine-tuned on the answers that `least_answers` queries of `train` give.

    `lr` is the encoder's peak rate, `head_lr` that of the answers' weights; `scale` is the length of what they are
    multiplied with. What is learned is kept in the file `weights` (`python -m benchmarks.okvqa.fit`).
    """

    train: FilePath
    encoder: TextEncoderConfig
    weights: FilePath
    epochs: Positive = 4
    batch_size: Positive = 32
    lr: NotNegative = 1e-4
    head_lr: NotNegative = 2e-3
    weight_decay: NotNegative = 0.01
    dropout: Share = 0.1
    scale: NotNegative = 10.0
    least_answers: Positive = 2
    seed: Seed = 0


@dataclass(frozen=True)
class LearnedScorerConfig:
    """The learned second scorer: a fine-tuned text encoder weighs the corpus's terms for a query, beside BM25's impacts, and
    finds the passages that are near in meaning, where `vectors` names the folder of their vectors (`gemkr embed`).

    It learns from `train`, a file of queries: passages that hold one of a query's answers are to score above all others.
    Terms are stems of at least `least_documents` passages and at most a share `most_documents` of them. `lr` is the encoder's
    peak rate, `head_lr` that of the terms, `scale` the length of what they are multiplied with, `threshold` what a term has to
    exceed at first to count. The encoder is tuned in `precision`, fp32 or bf16. What is learned is kept in the file `weights`
    (`python -m benchmarks.okvqa.fit`).
    """

    train: FilePath
    encoder: TextEncoderConfig
    weights: FilePath
    vectors: FilePath | None = None
    least_documents: Positive = 8
    most_documents: Share = 0.15
    epochs: Positive = 3
    batch_size: Positive = 32
    lr: NotNegative = 1e-4
    head_lr: NotNegative = 5e-4
    weight_decay: NotNegative = 0.01
    scale: NotNegative = 10.0
    threshold: NotNegative = 3.0
    precision: str = "fp32"
    seed: Seed = 0
