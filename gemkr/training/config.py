"""Settings of pre-training and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Natural, NotNegative, Positive, Share
from gemkr.models.hf.config import PromptConfig
from gemkr.models.writers.config import WriterConfig
from gemkr.training.loop.config import LoopConfig, OptimizerConfig


@dataclass(frozen=True)
class TrainDataConfig:
    """Training material: queries, the clues mined for them, pictures and their region features.

    `development` is a second clue file over the same queries, whose loss is measured at each checkpoint. A query's
    clues share one reading of its prompt, up to `clues_per_prompt` of them: the same loss, much sooner. The regions of
    a share `hide_regions` of the queries are withheld, so that the model also learns from whole pictures alone.
    """

    queries: FilePath
    clues: FilePath
    images: FilePath | None = None
    regions: FilePath | None = None
    development: FilePath | None = None
    max_prompt_tokens: Positive = 256
    clues_per_prompt: Positive = 1
    hide_regions: Share = 0.0


@dataclass(frozen=True)
class RankLossConfig:
    """A rank loss over judged clues (`gemkr judge`) beside the cross entropy of mined ones, `weight` times.

    Each prompt is shown the first `per_prompt` judged clues of its query (with `data.clues_per_prompt` at 1, every mined clue
    has a prompt of its own and repeats them). `sharpness` multiplies log-probabilities before clues are weighed against each
    other: above 1, the most probable ones count for more.
    """

    clues: FilePath
    weight: NotNegative = 1.0
    sharpness: NotNegative = 1.0
    per_prompt: Positive = 30


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopConfig):
    """One training experiment: `gemkr train CONFIG`."""

    model: WriterConfig
    data: TrainDataConfig
    rank_loss: RankLossConfig | None = None


@dataclass(frozen=True)
class VocabularyConfig:
    """A sentencepiece vocabulary of one's own: how many pieces, learned from how many of the corpus's lines; with
    `fold_case` it reads everything in lower case."""

    pieces: Positive = 8000
    lines: Positive = 300_000
    fold_case: bool = False


@dataclass(frozen=True)
class LlamaConfig:
    """The size of a LLaMA that is trained from scratch; `context` is the longest sequence it can ever read."""

    hidden: Positive = 256
    layers: Positive = 4
    heads: Positive = 4
    intermediate: Positive = 704
    context: Positive = 1024
    tie_embeddings: bool = True


@dataclass(frozen=True)
class EmbeddingsConfig:
    """Token embeddings from the corpus's co-occurrences within `window` tokens, as vectors of length `norm`. With a window
    of 0 nothing meets: random directions of that length."""

    window: Natural = 8
    norm: NotNegative = 2.0


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(LoopConfig):
    """Pre-training of a small LLaMA on a corpus: `gemkr pretrain CONFIG`.

    `tokenizer` is used when given, else a `vocabulary` is trained on the corpus. `queries` (with answers) and the documents
    of `further` corpora are mixed into it, `repeat` times each; `sequence_tokens` is the length of a packed row. With
    `embeddings` the token embeddings start from co-occurrences instead of at random; `max_steps` 0 leaves it at that.
    """

    corpus: FilePath
    tokenizer: FilePath | None = None
    vocabulary: VocabularyConfig = VocabularyConfig()
    queries: FilePath | None = None
    further: tuple[FilePath, ...] = ()
    repeat: Positive = 1
    prompt: PromptConfig = field(default_factory=PromptConfig)
    llama: LlamaConfig = LlamaConfig()
    embeddings: EmbeddingsConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=2e-3, min_lr=1e-4, warmup_steps=100, weight_decay=0.1, beta2=0.95
    )
    precision: str = "fp32"
    sequence_tokens: Positive = 256
    batch_size: Positive = 16
    epochs: Positive = 1
    max_steps: Natural | None = None
    workers: Natural = 0
