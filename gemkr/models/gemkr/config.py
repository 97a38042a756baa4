"""Settings of the whole network."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Natural, Positive, Share
from gemkr.errors import ModelError
from gemkr.models.gemkr.prompt import Template, template_file
from gemkr.models.hf.config import LoraConfig, PromptConfig, TextEncoderConfig, text_encoder_files
from gemkr.vision.config import TowerConfig


@dataclass(frozen=True)
class PrefixConfig:
    """Object-aware prefix tuning (GeMKR, section 3.2): the last `blocks` blocks get `rows` learned rows each."""

    blocks: Positive = 20
    rows: Positive = 10


@dataclass(frozen=True)
class VisualTokensConfig:
    """The visual input of the LLM: the CLS state, the first rows of the last prefix, the regions in reading order."""

    cls: bool = True
    prefix_rows: Natural = 2
    regions: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. `llm` is a Hugging Face folder or a LLaMA's GGUF file; no tower means a text-only model, no text encoder an LLM that
    reads the prompt by itself.

    `dropout` is for an LLM that is trained whole (`train_llm`): of its embeddings, feed-forward outputs and last states.
    `fused` reads whole rows in a pass written for CPUs, where a LLaMA's adapters learn two to three times as fast: the same
    function up to rounding, but dropout draws other numbers, and one for all adapters that read the same states.
    `prompt_dropout` hides that share of each prompt's words in training, on the average.
    """

    llm: FilePath
    tokenizer: FilePath | None = None
    tower: TowerConfig | None = None
    prefix: PrefixConfig = PrefixConfig()
    visual_tokens: VisualTokensConfig = VisualTokensConfig()
    text_encoder: TextEncoderConfig | None = None
    prompt: PromptConfig = PromptConfig()
    lora: LoraConfig | None = LoraConfig()
    train_llm: bool = False
    dropout: Share = 0.0
    prompt_dropout: Share = 0.0
    precision: str = "fp32"
    fused: bool = False
    checkpoint: FilePath | None = None

    @property
    def base(self) -> str:
        """The LLM, for messages."""
        return self.llm

    @property
    def vocabulary(self) -> str:
        """Where the tokenizer lies."""
        return self.tokenizer or self.llm

    @property
    def sees_pictures(self) -> bool:
        return self.tower is not None

    @property
    def sees_regions(self) -> bool:
        return self.tower is not None


def model_files(model: ModelConfig) -> dict[str, str | None]:
    """Every path that a model is read from, by what is read there."""
    files = {"llm": model.llm, "checkpoint": model.checkpoint, "tokenizer": model.tokenizer}
    if model.prompt.template is not None:
        files["prompt.template"] = str(template_file(model.prompt.template))
    if model.tower is not None:
        files |= {"tower.config": model.tower.config, "tower.weights": model.tower.weights}
    if model.text_encoder is not None:
        files |= {
            f"text_encoder.{what}": path for what, path in text_encoder_files(model.text_encoder).items()
        }
    return files


def with_template(model: ModelConfig, name: str) -> ModelConfig:
    """The settings with the packaged template `name`, unless they have one."""
    if model.prompt.template is not None:
        return model
    return replace(model, prompt=replace(model.prompt, template=name))


def require_passage(model: ModelConfig, who: str) -> Template:
    """The model's template; ModelError unless it shows `who` a passage."""
    return require_passage_in(model.prompt.template, who)


def require_passage_in(name: str, who: str) -> Template:
    """The template of that name or path; ModelError unless it shows `who` a passage."""
    template = Template.load(name)
    if not any("{passage}" in section for section in template.sections):
        raise ModelError(
            f"the prompt template {name} has no {{passage}}, so that {who} would never see one; add a line with "
            "it, or leave model.prompt.template out"
        )
    return template
