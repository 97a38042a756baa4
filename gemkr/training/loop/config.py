"""Settings of the optimizer and of the loop."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.paths import FilePath
from gemkr.config.ranges import AboveZero, Decay, Natural, NotNegative, Positive, Seed


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and `decay` by a cosine (the paper's defaults), or `linear` (VLM2Vec).

    `projector_lr` is the peak rate of everything but the LLM, `text_encoder_lr` that of the text encoder,
    `embedding_lr` that of the LLM's token embeddings, `new_lr` that of an encoder's new layers (fusion, pooler, projections, mapping). A warm-up takes at most a quarter of a run. Gradients longer than `max_grad_norm` are cut to it; null cuts none.
    `eps` is added to the root of AdamW's second moments (UniIR: 1e-6).
    """

    lr: AboveZero = 6e-5
    projector_lr: NotNegative | None = None
    text_encoder_lr: NotNegative | None = None
    embedding_lr: NotNegative | None = None
    new_lr: NotNegative | None = None
    warmup_lr: NotNegative = 1e-6
    min_lr: NotNegative = 1e-5
    warmup_steps: Natural = 200
    weight_decay: NotNegative = 0.05
    max_grad_norm: AboveZero | None = 1.0
    beta2: Decay = 0.999
    eps: AboveZero = 1e-8
    decay: str = "cosine"


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """Settings of every kind of training: where results go, how many steps of what size, what is kept and reported.

    A run ends after `epochs` or `max_steps`, whichever comes first.
    """

    output: FilePath
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: Positive = 12
    gradient_accumulation: Positive = 1
    epochs: Positive = 5
    max_steps: Positive | None = None
    save_every: Positive = 500
    keep_checkpoints: Positive = 2
    log_every: Positive = 10
    workers: Natural = 2
    seed: Seed = 0
