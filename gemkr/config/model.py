"""Settings of the model: tower, prefix, prompt, LoRA and the LLM."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.ranges import Natural, Positive, Share


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
class TextEncoderConfig:
    """A pre-trained text encoder that reads question, caption and labels for the LLM: a Hugging Face folder.

    With `train` it is trained along, but for its word embeddings; of a longer text it reads the first `max_tokens` tokens.
    `weights` is the weight file of an answer classifier over this encoder: it starts from what was fine-tuned there.
    """

    folder: str
    weights: str | None = None
    train: bool = True
    max_tokens: Positive = 96


@dataclass(frozen=True)
class PromptConfig:
    """Which fields of a query the prompt shows beside question and image, and a template file of one's own."""

    caption: bool = False
    detections: bool = False
    template: str | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The whole network. `llm` is a Hugging Face folder; no tower means a text-only model, no text encoder an LLM that
    reads the prompt by itself.

    `dropout` is for an LLM that is trained whole (`train_llm`): of its embeddings, feed-forward outputs and last states.
    `prompt_dropout` hides that share of each prompt's words in training, on the average.
    """

    llm: str
    tokenizer: str | None = None
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
    checkpoint: str | None = None
