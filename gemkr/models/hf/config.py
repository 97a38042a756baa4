"""Settings of what transformers and peft load, and of what is read of a query."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.paths import FilePath, TemplatePath
from gemkr.config.ranges import Positive, Share


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters on the LLM, DoRA where `dora`; `targets` is a regex on full module names."""

    r: Positive = 8
    alpha: Positive = 16
    dropout: Share = 0.05
    targets: str = r".*\.(q_proj|v_proj)"
    dora: bool = False


@dataclass(frozen=True)
class TextEncoderConfig:
    """A pre-trained text encoder that reads question, caption and labels for the LLM: a Hugging Face folder.

    With `train` it is trained too, except its word embeddings; of a longer text it reads the first `max_tokens` tokens.
    `weights` is the weight file of an answer classifier over this encoder: it starts from what was fine-tuned there.
    """

    folder: FilePath
    weights: FilePath | None = None
    train: bool = True
    max_tokens: Positive = 96


@dataclass(frozen=True)
class PromptConfig:
    """Which fields of a query the prompt shows beside question and image, and its template: a file of one's own, or the
    name of one that comes with the package (short, okvqa)."""

    caption: bool = False
    detections: bool = False
    template: TemplatePath | None = None


def text_encoder_files(encoder: TextEncoderConfig) -> dict[str, str | None]:
    """The paths that a text encoder is read from, by what is read there."""
    return {"folder": encoder.folder, "weights": encoder.weights}
