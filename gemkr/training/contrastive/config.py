"""Settings of contrastive training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from gemkr.config.paths import FilePath
from gemkr.config.ranges import AboveZero, Decay, Natural, Positive, Share
from gemkr.config.section import Section
from gemkr.models.encoders import ALL_ENCODERS
from gemkr.training.loop.config import LoopConfig

EACH, ONE = POSITIVES = ("each", "one")
FIRST, RANDOM = DRAWS = ("first", "random")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which hits of a query may be its hard negatives: those that are no positives of it, from rank `skip` + 1 to `depth`. With
    `below`, only those whose score is less than that share of the query's best positive's in the run (or of its best score where
    no positive is in it): what scores higher is likely to be relevant and not judged."""

    skip: Natural = 0
    depth: Positive = 100
    below: AboveZero | None = None


@dataclass(frozen=True, kw_only=True)
class NegativesConfig(Window):
    """Hard negatives: the first `per_query` documents of a finished `run` (TREC, of any retriever over the training queries, or of
    `gemkr mine-negatives`) that are no positives of the query, from rank `skip` + 1 to `depth`, and with `below` only those whose
    score is less than that share of the query's best positive's in the run (of its best score where no positive is in it). With
    `draw` "random", `per_query` of all these are drawn anew in every epoch, as UniIR draws them."""

    run: FilePath
    per_query: Positive = 1
    draw: str = FIRST


@dataclass(frozen=True)
class QueueConfig:
    """BLIP's momentum queue: negatives are also the last `size` documents (and, with `symmetric`, queries) as a copy of the encoder
    saw them, which follows it by 1 - `momentum` a batch. A share `alpha` of what is right is what that copy finds alike; it rises
    from 0 in the first `ramp_steps` batches."""

    size: Positive = 57_600
    momentum: Decay = 0.995
    alpha: Share = 0.4
    ramp_steps: Natural = 0


@dataclass(frozen=True)
class LossConfig:
    """InfoNCE over the documents of a batch, those of all devices: similarities (of late interaction: MaxSim) divided by `temperature`, which is learned where it is `learnable`
    (down to `least`; UniIR bounds CLIP's nowhere, BLIP's at 0.001), by its logarithm as CLIP's or `direct` as BLIP's, which is faster at
    equal rates; with `symmetric`, from documents to queries as well. BLIP: learnable from 0.07, symmetric, a `queue`."""

    temperature: AboveZero = 0.02
    learnable: bool = False
    direct: bool = False
    least: AboveZero = 0.01
    symmetric: bool = False
    queue: QueueConfig | None = None


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(LoopConfig):
    """Contrastive training of an encoder: `gemkr train CONFIG` with a section `encoder`.

    Learns from the `queries` that have `positives` in the corpus; pictures are found in `images`, their boxes in the store `regions`. Of a batch, `chunk_size` items at
    a time are held with what their gradients need (null: all at once); results are the same, memory is not (GradCache).
    With `sub_batch`, the batch of all devices is filled with blocks of that many samples of one data set each, which makes the
    documents of others harder negatives. A query's data set is what stands before the first ":" in its id, as in M-BEIR, or
    else its `instruction`.
    A query with several positives is learned with `each` of them in an epoch, or with `one`, drawn anew in every epoch (UniIR, LamRA).
    With `instructions`, M-BEIR's table, it is given one of the prompts for its data set and what it looks for, drawn anew as well.
    `at_least` says how many samples a data set has at least: those that are missing are drawn among its own, once (UniIR's up-sampled file).
    Batches hold documents of like length, and so of one modality, unless `by_length` is false (UniIR, LamRA: any).
    """

    encoder: Annotated[Section, ALL_ENCODERS]
    corpus: FilePath
    queries: FilePath
    images: FilePath | None = None
    regions: FilePath | None = None
    negatives: NegativesConfig | None = None
    loss: LossConfig = LossConfig()
    chunk_size: Positive | None = None
    sub_batch: Positive | None = None
    positives: str = EACH
    instructions: FilePath | None = None
    at_least: dict[str, int] = field(default_factory=dict)
    by_length: bool = True
    precision: str = "fp32"
