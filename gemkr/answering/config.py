"""Settings of readers: what they learn from, how they read, and what an evaluation answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from gemkr.answering import READERS
from gemkr.config.paths import FilePath
from gemkr.config.ranges import NotNegative, Positive, Share
from gemkr.config.section import Section
from gemkr.models.gemkr.config import ModelConfig, with_template
from gemkr.training.loop.config import LoopConfig

TEMPLATE = "reader"
"""The packaged template of a reader whose configuration names none."""
CLOSED_BOOK = "closed_book"
"""Where an evaluation's names of retrievers are listed: no passages at all."""


@dataclass(frozen=True, kw_only=True)
class ReaderDataConfig:
    """What a reader learns from: queries with answers, and the passages that a run found for them (`run`: run.jsonl or TREC).

    Each query is read with each of its first `passages`, and with `closed_book` once without any. It learns the first
    `answers` of those that the passage holds (under `match`), of all where it holds none. With a `window`, of a passage with clues
    it is shown that many words on each side of the likeliest one, which is marked; a reader reads as it has learned. `development`
    are further queries of the same run, whose loss is measured at each checkpoint.
    """

    queries: FilePath
    run: FilePath
    corpus: FilePath
    passages: Positive = 4
    window: Positive | None = None
    closed_book: bool = True
    answers: Positive = 3
    match: str = "word"
    development: FilePath | None = None
    images: FilePath | None = None
    regions: FilePath | None = None
    max_prompt_tokens: Positive = 256
    hide_regions: Share = 0.0


@dataclass(frozen=True, kw_only=True)
class ReaderTrainConfig(LoopConfig):
    """One training of a reader: `gemkr train-reader CONFIG`. Without a `model.prompt.template`, the packaged `reader` is used."""

    model: ModelConfig
    data: ReaderDataConfig


@dataclass(frozen=True, kw_only=True)
class LLMReaderConfig:
    """A language model of the LLaMA family reads the passages one by one, and their answers are added up.

    For each passage it writes `beam_size` answers of at most `max_tokens` tokens; each of them is then scored under every
    passage. The passage of rank r counts r ** -`rank_decay`. `batch_size` counts queries; it changes speed and memory alone.
    """

    model: ModelConfig
    beam_size: Positive = 2
    max_tokens: Positive = 10
    max_prompt_tokens: Positive = 256
    rank_decay: NotNegative = 1.0
    batch_size: Positive = 2


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """Answers of a `reader` from the first `depth` passages of each retriever that `of` names, the main one first; `closed_book`
    there means none. Where `of` is left out, from those of the main retriever.

    `calibration` is a file of `gemkr answer --calibrate`: with it answers have a confidence and a threshold to abstain.
    `annotations` is an annotation file of OK-VQA or VQA, for the official accuracy.
    """

    reader: Annotated[Section, READERS]
    of: tuple[str, ...] = ()
    depth: Positive = 5
    calibration: FilePath | None = None
    annotations: FilePath | None = None


def reading_model(model: ModelConfig) -> ModelConfig:
    """The settings of a reader's model, its template filled in."""
    return with_template(model, TEMPLATE)
