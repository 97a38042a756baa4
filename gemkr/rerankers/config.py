"""Settings of training a reranker that asks a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gemkr.config.paths import FilePath, TemplatePath
from gemkr.config.ranges import Positive, Range, Share
from gemkr.models.writers.config import WriterConfig
from gemkr.training.contrastive.config import Window
from gemkr.training.loop.config import LoopConfig

SAMPLES = ("yes", "no", "listwise")
"""Kinds of samples: a positive and yes; a hard negative and no; a positive among negatives and its number."""


@dataclass(frozen=True, kw_only=True)
class RerankConfig(Window):
    """What a reranker learns from: queries with `positives` in the corpus, and a finished `run` over them (such as of
    `gemkr mine-negatives`), whose hits in the window are hard negatives.

    Each positive of a query gives the `samples` (LamRA's three by default), `draws` times with other negatives: `yes` asks about the
    positive, `no` about a random hard negative, `listwise` shows the positive at a random place among 1 to `list_size` - 1 of them.
    `tidy` as where they are reranked.
    """

    queries: FilePath
    corpus: FilePath
    run: FilePath
    images: FilePath | None = None
    regions: FilePath | None = None
    samples: tuple[str, ...] = SAMPLES
    draws: Positive = 1
    list_size: Annotated[int, Range(2, 99)] = 5
    yes: str = "Yes"
    no: str = "No"
    pointwise_template: TemplatePath = "yes_no"
    listwise_template: TemplatePath = "listwise"
    max_prompt_tokens: Positive = 512
    tidy: bool = False
    hide_regions: Share = 0.0


@dataclass(frozen=True, kw_only=True)
class RerankerTrainConfig(LoopConfig):
    """Training of the rerankers yes_no and listwise, which ask a language model: `gemkr train CONFIG` with a section `rerank`.
    One model learns both; the loss is the cross entropy of the answers."""

    model: WriterConfig
    rerank: RerankConfig
