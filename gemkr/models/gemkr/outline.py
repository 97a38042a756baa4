"""The names and shapes of a model's trained parameters, without its weights: for tools that read or write checkpoints.

Reads the configurations of the base models only, so that LLaMA-7B costs seconds and no memory. Knows no checkpoints.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from gemkr.errors import ModelError, first_line
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.prefix import PrefixedTower
from gemkr.models.gemkr.projector import Projector
from gemkr.models.hf.gguf_llama import describe_gguf_llama
from gemkr.models.hf.llm import LLM
from gemkr.models.hf.llm_folder import add_lora
from gemkr.models.hf.text_encoder import outline_text_encoder
from gemkr.text.gguf_file import is_gguf
from gemkr.vision.encode import outline_tower


class Outline(nn.Module):
    """The trained parts of a `GeMKR` on torch's meta device, under the names that they have there."""

    def __init__(self, config: ModelConfig) -> None:
        """Raises ModelError or VisionError for base models that cannot be described."""
        super().__init__()
        with torch.device("meta"):
            self.llm = _outline_llm(config)
            if config.tower is not None:
                tower = outline_tower(config.tower)
                self.tower = PrefixedTower(tower, config.prefix)
                self.projector = Projector(tower.width, self.llm.hidden_size, 1.0)
            if config.text_encoder is not None:
                self.text_encoder = outline_text_encoder(config.text_encoder)
                self.text_projector = Projector(
                    self.text_encoder.width, self.llm.hidden_size, 1.0, boxed=False
                )

    def shapes(self) -> dict[str, torch.Size]:
        """Every trained parameter by name: those of `load_gemkr(config).trainable_parameters()`."""
        return {name: p.shape for name, p in self.named_parameters() if p.requires_grad}


def _outline_llm(config: ModelConfig) -> LLM:
    from transformers import AutoConfig, AutoModelForCausalLM

    if not is_gguf(config.llm) and not (Path(config.llm) / "config.json").is_file():
        raise ModelError(
            f"the LLM folder {config.llm} holds no config.json; give a local Hugging Face folder"
        )
    try:
        if is_gguf(config.llm):
            settings = describe_gguf_llama(config.llm)
        else:
            settings = AutoConfig.from_pretrained(config.llm, local_files_only=True)
        model = AutoModelForCausalLM.from_config(settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"the LLM folder {config.llm} cannot be described: {first_line(error)}") from error
    model.requires_grad_(config.train_llm)
    if config.lora is not None:
        add_lora(model, config.lora)
    return LLM(model)
