"""Experiments as frozen dataclasses, read from YAML and `key=value` overrides.

The only file that imports omegaconf. It knows the names and types of settings, not what they do; unknown
keys fail and name the nearest known one. Paths may hold `${oc.env:NAME}` or `${oc.env:NAME,default}`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gemkr.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """The values that a number may have, ends included; part of the annotation of a setting."""

    least: float
    most: float = math.inf

    def __str__(self) -> str:
        return f"at least {self.least}" if self.most == math.inf else f"between {self.least} and {self.most}"


Natural = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class TowerConfig:
    """A frozen open_clip vision tower: an architecture name or a json config of one's own, and local weights.

    With `depth` the tower ends after so many blocks, before its last LayerNorm: BLIP-2's way, and the paper's (39 of
    EVA-CLIP-g's 40).
    """

    architecture: str = "ViT-L-14"
    config: str | None = None
    weights: str | None = None
    depth: Positive | None = None


@dataclass(frozen=True)
class PrefixConfig:
    """Object-aware prefix tuning (GeMKR, section 3.2): the last `blocks` blocks get `rows` learned rows each."""

    blocks: Positive = 20
    rows: Positive = 10


@dataclass(frozen=True)
class VisualTokensConfig:
    """What the LLM is shown: the CLS state, the first rows of the last prefix, the regions in reading order."""

    cls: bool = True
    prefix_rows: Natural = 2
    regions: bool = True


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on the LLM; `targets` is a regex on full module names."""

    r: Positive = 8
    alpha: Positive = 16
    dropout: Share = 0.05
    targets: str = r".*\.(q_proj|v_proj)"


@dataclass(frozen=True)
class PromptConfig:
    """Which fields of a query the prompt shows beside question and image, and a template file of one's own."""

    caption: bool = False
    detections: bool = False
    template: str | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. `llm` is a Hugging Face folder; no tower means a text-only model.

    `dropout` is for an LLM that is trained whole (`train_llm`): of its embeddings, feed-forward outputs and last states.
    `prompt_dropout` hides that share of each prompt's words in training, on the average.
    """

    llm: str
    tokenizer: str | None = None
    tower: TowerConfig | None = None
    prefix: PrefixConfig = PrefixConfig()
    visual_tokens: VisualTokensConfig = VisualTokensConfig()
    prompt: PromptConfig = PromptConfig()
    lora: LoraConfig | None = LoraConfig()
    train_llm: bool = False
    dropout: Share = 0.0
    prompt_dropout: Share = 0.0
    precision: str = "fp32"
    checkpoint: str | None = None


@dataclass(frozen=True)
class TrainDataConfig:
    """Training material: queries, the clues mined for them, pictures and their region features.

    `development` is a second clue file over the same queries, whose loss is measured at each checkpoint. A query's
    clues share one reading of its prompt, up to `clues_per_prompt` of them: the same loss, much sooner. The regions of
    a share `hide_regions` of the queries are withheld, so that the model also learns from whole pictures alone.
    """

    queries: str
    clues: str
    images: str | None = None
    regions: str | None = None
    development: str | None = None
    max_prompt_tokens: Positive = 256
    clues_per_prompt: Positive = 1
    hide_regions: Share = 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay (the paper's defaults).

    `projector_lr` is the peak rate of everything but the LLM, `embedding_lr` that of the LLM's token embeddings.
    """

    lr: NotNegative = 6e-5
    projector_lr: NotNegative | None = None
    embedding_lr: NotNegative | None = None
    warmup_lr: NotNegative = 1e-6
    min_lr: NotNegative = 1e-5
    warmup_steps: Natural = 200
    weight_decay: NotNegative = 0.05
    max_grad_norm: NotNegative = 1.0
    beta2: Share = 0.999


@dataclass(frozen=True)
class TrainConfig:
    """One training experiment: `gemkr train CONFIG`."""

    model: ModelConfig
    data: TrainDataConfig
    output: str
    optimizer: OptimizerConfig = OptimizerConfig()
    batch_size: Positive = 12
    gradient_accumulation: Positive = 1
    epochs: Positive = 5
    max_steps: Positive | None = None
    save_every: Positive = 500
    keep_checkpoints: Positive = 2
    log_every: Positive = 10
    workers: Natural = 2
    seed: Natural = 0


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
    """Token embeddings from the corpus's co-occurrences within `window` tokens, as vectors of length `norm`."""

    window: Positive = 8
    norm: NotNegative = 2.0


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-training of a small LLaMA on a corpus: `gemkr pretrain CONFIG`.

    `tokenizer` is used when given, else a `vocabulary` is trained. `queries` (with answers) and `lines` (a text file)
    are mixed into the corpus, `repeat` times each; `sequence_tokens` is the length of a packed row. With `embeddings` the
    token embeddings start from co-occurrences instead of at random; `max_steps` 0 leaves it at that.
    """

    corpus: str
    output: str
    tokenizer: str | None = None
    vocabulary: VocabularyConfig = VocabularyConfig()
    queries: str | None = None
    lines: str | None = None
    repeat: Positive = 1
    prompt: PromptConfig = PromptConfig()
    llama: LlamaConfig = LlamaConfig()
    embeddings: EmbeddingsConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig(
        lr=2e-3, min_lr=1e-4, warmup_steps=100, weight_decay=0.1, beta2=0.95
    )
    precision: str = "fp32"
    sequence_tokens: Positive = 256
    batch_size: Positive = 16
    gradient_accumulation: Positive = 1
    epochs: Positive = 1
    max_steps: Natural | None = None
    save_every: Positive = 500
    keep_checkpoints: Positive = 2
    log_every: Positive = 10
    workers: Natural = 0
    seed: Natural = 0


@dataclass(frozen=True)
class DecodingConfig:
    """Beam search under the index (DESIGN 5); the defaults of `reference` are the published settings."""

    beam_size: Positive = 10
    groups: Positive = 10
    diversity: NotNegative = 0.5
    max_tokens: Positive = 10
    min_tokens: Positive = 1
    length_penalty: float = 1.5
    word_start: bool = False
    allow_eos: bool = True
    stop_at_one_document: bool = False
    document_penalty: float = 0.0
    group_by_head: bool = False
    head_words: Positive = 1
    beams_per_head: Positive = 1
    count_prior: NotNegative = 0.0
    second_pass: Natural = 0
    batch_size: Positive = 8


@dataclass(frozen=True)
class ScoringConfig:
    """From clues to documents (DESIGN 6): reference | coverage | seal, and the second scorer inside a span.

    With `whole_words` a document counts for a clue only where a word ends with it: `ski` is not in `skiing`.
    """

    method: str = "coverage"
    inside_span: str = "bm25"
    discount: float = 0.3
    second_weight: float = 0.1
    documents_per_clue: Positive = 100
    rows_per_clue: Positive = 50_000
    whole_words: bool = False
    alpha: float = 2.0
    beta: float = 0.8


@dataclass(frozen=True)
class ClassifierConfig:
    """The answer classifier: `networks` averaged bag-of-words networks over the answers that `least_answers` queries give.

    Words of fewer than `least_words` training queries are passed over; `word_dropout` leaves out words of a query.
    """

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
    seed: Natural = 0


@dataclass(frozen=True)
class AnswerExpertConfig:
    """An answer classifier that writes with the model or the ensemble: its best `guesses` count for `weight` of a clue's
    probability, the models share the rest equally.

    It learns from the answers of `train`, a file of queries; its weights are kept in the output folder.
    """

    train: str
    weight: Share = 0.5
    guesses: Positive = 60
    classifier: ClassifierConfig = ClassifierConfig()


@dataclass(frozen=True)
class OpponentsConfig:
    """Simple opponents, which learn from the answers of `train`, a file of queries, and never from those they are asked.

    `neighbours` training questions vote for answers; greedy coverage looks at the best `answers` and discounts by
    `discount`; `fused` are names of retrievers that `fusion` joins, `depth` documents of each, with the constant `rrf_k`.
    """

    train: str
    neighbours: Positive = 30
    classifier: ClassifierConfig = ClassifierConfig()
    answers: Positive = 30
    discount: Share = 0.3
    second_weight: NotNegative = 0.1
    fused: tuple[str, ...] = ("bm25_caption", "nearest_questions")
    depth: Positive = 100
    rrf_k: NotNegative = 60.0


@dataclass(frozen=True)
class EvalConfig:
    """One evaluation experiment: `gemkr eval CONFIG` retrieves, scores and reports.

    `ensemble` are further models of the same tokenizer and prompt, whose probabilities of a clue are averaged with `model`'s;
    `answer_expert` joins them.
    `form` asks the model for a clue form (short, long) that it was trained with; `baselines` are names of further
    retrievers over the same queries and corpus; `cards` is the number of queries that the report shows one by one.
    """

    queries: str
    corpus: str
    output: str
    retriever: str = "generative"
    model: ModelConfig | None = None
    ensemble: tuple[ModelConfig, ...] = ()
    answer_expert: AnswerExpertConfig | None = None
    index: str | None = None
    images: str | None = None
    regions: str | None = None
    decoding: DecodingConfig = DecodingConfig()
    scoring: ScoringConfig = ScoringConfig()
    opponents: OpponentsConfig | None = None
    qrels: str | None = None
    match: str | None = None
    metrics: tuple[str, ...] = ("P@5", "S@1", "S@5", "S@10", "MRR@10", "D@10")
    k: Positive = 10
    form: str | None = None
    max_prompt_tokens: Positive | None = None
    baselines: tuple[str, ...] = ()
    cards: Natural = 60
    limit: Positive | None = None
    seed: Natural = 0


T = TypeVar("T")


def load_config(path: str | Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into the dataclass `kind`, then apply `key=value` overrides (dots reach inside).

    Raises ConfigError for a missing file, broken YAML, an unknown key (naming the nearest one), a missing
    required key, a value of the wrong type, or an environment variable that is not set.
    """
    return from_mapping(_read_yaml(Path(path), overrides), kind, str(path))


def load_model_config(path: str | Path, overrides: Sequence[str] = ()) -> ModelConfig:
    """The section `model` of a training or evaluation file, after overrides (`model.llm=…`); the rest is not looked at.

    Raises ConfigError as `load_config` does, and for a file without that section.
    """
    values = _read_yaml(Path(path), overrides, section="model")
    return from_mapping(values, ModelConfig, f"{path}: model")


def _read_yaml(path: Path, overrides: Sequence[str], section: str | None = None) -> dict[str, Any]:
    """The resolved settings of a file, or of one of its sections."""
    if not path.is_file():
        wrong = "is not a file" if path.exists() else "does not exist"
        raise ConfigError(
            f"the configuration {path} {wrong}; the ready-made ones are in train_configs/ and eval_configs/"
        )
    for override in overrides:
        if "=" not in override:
            raise ConfigError(f"the override {override!r} is not of the form key=value")
    try:
        loaded = OmegaConf.load(path)
        merged = OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(overrides)))
        if section is not None:
            merged = OmegaConf.select(merged, section)
            if not isinstance(merged, DictConfig):
                raise ConfigError(
                    f"{path} has no section {section!r}; name a file that describes a {section}"
                )
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text, so it is no YAML; name a configuration") from error
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
        raise
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, it holds {type(values).__name__}")
    return values


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain nested dict of a configuration, fit for json and YAML."""
    return dataclasses.asdict(config)


def from_mapping(values: dict[str, Any], kind: type[T], where: str) -> T:
    """A dataclass from a nested dict, checked against its annotations; `where` opens the error messages."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind, include_extras=True)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            raise ConfigError(
                f"{where}: unknown key {reprlib.repr(key)}; the nearest known key is {near[0]!r}"
            )
    missing = [n for n, f in fields.items() if n not in values and _required(f)]
    if missing:
        raise ConfigError(f"{where}: the required key {missing[0]!r} is missing")
    return kind(**{key: _convert(value, hints[key], f"{where}: {key}") for key, value in values.items()})


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Annotated:
        kind, allowed = typing.get_args(hint)
        number = _convert(value, kind, where)
        if not allowed.least <= number <= allowed.most:
            raise ConfigError(f"{where} must be {allowed}, it is {number!r}")
        return number
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        (inner,) = [a for a in typing.get_args(hint) if a is not type(None)]
        return _convert(value, inner, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping, it is {value!r}")
        return from_mapping(value, hint, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, it is {value!r}")
        return tuple(_convert(v, typing.get_args(hint)[0], where) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if hint is float and isinstance(value, str):
        value = _number(value, where)
    if hint is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} must be of type {hint.__name__}, it is {value!r}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, it is {value!r}")
    return value


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{where} must be a number, it is {text!r}") from None
