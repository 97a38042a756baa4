"""The settings of a model that writes clues, of whatever kind. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from gemkr.config.kinds import Variants
from gemkr.models.gemkr.config import ModelConfig, model_files
from gemkr.models.vlm.config import VlmConfig, vlm_files

WRITERS = Variants(
    "model",
    {"gemkr": "gemkr.models.gemkr.config:ModelConfig", "vlm": "gemkr.models.vlm.config:VlmConfig"},
    default="gemkr",
)
"""Short names of kinds -> "module:Dataclass"."""
WriterConfig = Annotated[ModelConfig | VlmConfig, WRITERS]
"""What a section `model` holds: `kind: gemkr` (where none is named) or `kind: vlm`."""


def writer_files(model: ModelConfig | VlmConfig) -> dict[str, str | None]:
    """Every path that a model is read from, by what is read there."""
    return vlm_files(model) if isinstance(model, VlmConfig) else model_files(model)
