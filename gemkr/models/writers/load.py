"""From settings to a model that writes clues."""

from __future__ import annotations

from typing import Any

from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.network import GeMKR, load_gemkr
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.vlm.network import VlmWriter, load_vlm_writer


def load_writer(config: ModelConfig | VlmConfig, *, device: Any = "cpu") -> GeMKR | VlmWriter:
    """Build the network from its base models, in evaluation mode, without a checkpoint; raises as `load_gemkr` and
    `load_vlm_writer`."""
    return (load_vlm_writer if isinstance(config, VlmConfig) else load_gemkr)(config, device=device)
