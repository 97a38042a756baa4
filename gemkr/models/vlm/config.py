"""Settings of a vision-language model that writes clues."""

from __future__ import annotations

from dataclasses import dataclass

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Natural, Positive
from gemkr.models.gemkr.prompt import template_file
from gemkr.models.hf.config import LoraConfig, PromptConfig


@dataclass(frozen=True, kw_only=True)
class VlmConfig:
    """A local folder of Qwen2-VL, Qwen2.5-VL, Qwen3-VL, LLaVA, LLaVA-NeXT, LLaVA-OneVision, Idefics3 or SmolVLM; LoRA is put into its
    language part only.

    The prompt's template (`vlm` unless given) is what a user says, in the model's own chat template; with `chat: false` it is all
    there is. The first `crops` regions of a picture follow it as further pictures. Pictures are resized to between `min_pixels`
    and `max_pixels`, where the model takes pictures of any size.
    """

    kind: str = "vlm"
    folder: FilePath
    prompt: PromptConfig = PromptConfig()
    chat: bool = True
    crops: Natural = 0
    min_pixels: Positive | None = None
    max_pixels: Positive | None = None
    lora: LoraConfig | None = LoraConfig()
    precision: str = "fp32"
    checkpoint: FilePath | None = None

    @property
    def base(self) -> str:
        """The folder, for messages."""
        return self.folder

    @property
    def vocabulary(self) -> str:
        """Where the tokenizer lies."""
        return self.folder

    @property
    def tower(self) -> None:
        """Its own tower is part of the folder, and makes no features of regions."""
        return None

    @property
    def sees_pictures(self) -> bool:
        return True

    @property
    def sees_regions(self) -> bool:
        return self.crops > 0


def vlm_files(model: VlmConfig) -> dict[str, str | None]:
    """Every path that a model is read from, by what is read there."""
    files = {"folder": model.folder, "checkpoint": model.checkpoint}
    if model.prompt.template is not None:
        files["prompt.template"] = str(template_file(model.prompt.template))
    return files
