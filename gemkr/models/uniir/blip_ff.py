"""BLIP with feature fusion (UniIR's BLIP_FF): the text encoder reads the text and, by cross-attention, the picture's states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.models.embedder import Embedder, Inputs
from gemkr.models.hf.adapters import AdapterConfig, prepare
from gemkr.models.uniir.blip_sf import MAX_TOKENS, load_blip
from gemkr.models.uniir.fusion import all_pictures
from gemkr.models.weights import new_weights


class BlipFeatureFusion(nn.Module):
    """Inputs of n items -> float[n, width] of length 1: tanh of a linear layer (the pooler) over the first text state."""

    def __init__(self, blip: nn.Module, *, attend_padding: bool) -> None:
        super().__init__()
        self.text_encoder, self.vision_model = blip.text_encoder, blip.vision_model
        self.width = blip.config.text_config.hidden_size
        self.pooler, self.attend_padding = nn.Linear(self.width, self.width), attend_padding

    def forward(self, inputs: Inputs) -> Tensor:
        if self.attend_padding:
            first = self._first(inputs["tokens"], inputs["token_mask"], all_pictures(inputs))
        else:
            first = self._apart(inputs)
        return F.normalize(torch.tanh(self.pooler(first)), dim=-1)

    def _first(self, tokens: Tensor, mask: Tensor, pixels: Tensor | None) -> Tensor:
        """The first text state [n, width] of items that all have a picture, or none."""
        seen = {}
        if pixels is not None:
            states = self.vision_model(pixel_values=pixels).last_hidden_state
            visible = torch.ones(states.shape[:-1], dtype=torch.int64, device=states.device)
            seen = {"encoder_hidden_states": states, "encoder_attention_mask": visible}
        return self.text_encoder(input_ids=tokens, attention_mask=mask, **seen).last_hidden_state[:, 0]

    def _apart(self, inputs: Inputs) -> Tensor:
        """Items without a picture are read as texts, without cross-attention."""
        has_image = inputs["has_image"]
        first: Tensor | None = None
        for rows, pixels in ((has_image, inputs["pixels"]), (~has_image, None)):
            if rows.any():
                states = self._first(inputs["tokens"][rows], inputs["token_mask"][rows], pixels)
                first = states.new_zeros(len(rows), self.width) if first is None else first
                first = first.index_copy(0, rows.nonzero()[:, 0], states)
        return first


class BlipFeatureFusionEncoder(Embedder):
    """An `Encoder` over a local folder of transformers' BLIP for retrieval, with a pooler of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As for blip_sf; the pooler is new and learned. `attend_padding`: as published, an item without a picture is shown an empty
        one; without it, none."""

        folder: FilePath
        checkpoint: FilePath | None = None
        adapters: AdapterConfig | None = None
        max_tokens: Positive = MAX_TOKENS
        image_size: Positive | None = None
        attend_padding: bool = True
        batch_size: Positive = 32

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> BlipFeatureFusionEncoder:
        blip, reader = load_blip(config, sources)
        with new_weights():
            network = BlipFeatureFusion(blip, attend_padding=config.attend_padding)
        prepare(network, config.adapters, fresh=("pooler",))
        if config.checkpoint is not None:
            sources.put_in(network, config.checkpoint)
        facts = {"max_tokens": reader.max_tokens, "attend_padding": config.attend_padding}
        return cls(network, reader, batch_size=config.batch_size, facts=facts)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}
