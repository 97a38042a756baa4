"""CLIP with feature fusion (UniIR's CLIP_FF): the token states of both towers through a small T5 encoder, then their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive, Share
from gemkr.errors import ModelError
from gemkr.models.embedder import Embedder, Inputs
from gemkr.models.hf.adapters import AdapterConfig, prepare
from gemkr.models.uniir.clip_sf import load_clip
from gemkr.models.uniir.fusion import FusionLayers, all_pictures
from gemkr.models.weights import new_weights


class ClipFeatureFusion(nn.Module):
    """Inputs of n items -> float[n, width] of length 1. Text states after the last LayerNorm, unprojected; the picture's after
    LayerNorm and projection; first the text, then the picture."""

    def __init__(self, clip: nn.Module, fusion: FusionLayers, *, attend_padding: bool) -> None:
        super().__init__()
        self.text_model = clip.text_model
        self.vision_model, self.visual_projection = clip.vision_model, clip.visual_projection
        self.fusion, self.attend_padding = fusion, attend_padding
        self.width = clip.config.projection_dim

    def forward(self, inputs: Inputs) -> Tensor:
        text = self.text_model(input_ids=inputs["tokens"]).last_hidden_state
        states = self.vision_model(pixel_values=all_pictures(inputs)).last_hidden_state
        image = self.visual_projection(self.vision_model.post_layernorm(states))
        both = torch.cat([text, image], dim=1)
        if self.attend_padding:
            return self.fusion(both, None)
        words = inputs["token_mask"] * inputs["has_text"][:, None]
        patches = inputs["has_image"][:, None].expand(-1, image.shape[1])
        return self.fusion(both, torch.cat([words, patches.to(words.dtype)], dim=1))


class ClipFeatureFusionEncoder(Embedder):
    """An `Encoder` over a local folder of transformers' CLIP and fusion layers of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """As for clip_sf; the T5 `layers` are new and learned. `attend_padding`: as published, padded text and the empty picture
        of an item without one are read like any other; without it they are not seen."""

        folder: FilePath
        checkpoint: FilePath | None = None
        adapters: AdapterConfig | None = None
        max_tokens: Positive | None = None
        attend_padding: bool = True
        layers: Positive = 2
        heads: Positive = 12
        head_width: Positive = 64
        feed_forward: Positive = 2048
        dropout: Share = 0.1
        batch_size: Positive = 32

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> ClipFeatureFusionEncoder:
        clip, reader = load_clip(config, sources, fixed=config.attend_padding)
        width, states = clip.config.projection_dim, clip.config.text_config.hidden_size
        if width != states:
            raise ModelError(
                f"feature fusion joins text states of {states} numbers and pictures of {width}, which must be equal; the CLIP folder "
                f"{config.folder} does not fit, use clip_sf"
            )
        with new_weights():
            fusion = FusionLayers(
                width, layers=config.layers, heads=config.heads, head_width=config.head_width,
                feed_forward=config.feed_forward, dropout=config.dropout,
            )  # fmt: skip
        network = ClipFeatureFusion(clip, fusion, attend_padding=config.attend_padding)
        prepare(network, config.adapters, fresh=("fusion",))
        if config.checkpoint is not None:
            sources.put_in(network, config.checkpoint)
        facts = {"max_tokens": reader.max_tokens, "attend_padding": config.attend_padding}
        return cls(network, reader, batch_size=config.batch_size, facts=facts)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}
