"""CLIP with score fusion (UniIR's CLIP_SF): the sum of the text's and the picture's embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.models.embedder import Embedder, Inputs
from gemkr.models.hf.adapters import AdapterConfig, prepare
from gemkr.models.hf.folder import load_folder
from gemkr.models.uniir.fusion import summed
from gemkr.models.uniir.reader import PairReader, load_reading


class ClipScoreFusion(nn.Module):
    """Inputs of n items -> float[n, width] of length 1, width being that of CLIP's shared space."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.text_model, self.text_projection = clip.text_model, clip.text_projection
        self.vision_model, self.visual_projection = clip.vision_model, clip.visual_projection
        self.width = clip.config.projection_dim

    def forward(self, inputs: Inputs) -> Tensor:
        return summed(inputs, self._text, self._image, self.width)

    def _text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The tower is causal and pools at the end token, so that padding behind it is never seen."""
        return self.text_projection(self.text_model(input_ids=tokens).pooler_output)

    def _image(self, pixels: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(pixel_values=pixels).pooler_output)


class ClipScoreFusionEncoder(Embedder):
    """An `Encoder` over a local folder of transformers' CLIP."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A folder of CLIP; `checkpoint` of `gemkr train`; with `adapters` only these learn, else all weights. Of a longer text
        the first `max_tokens` tokens are read (default: as many as the model has positions for)."""

        folder: FilePath
        checkpoint: FilePath | None = None
        adapters: AdapterConfig | None = None
        max_tokens: Positive | None = None
        batch_size: Positive = 32

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> ClipScoreFusionEncoder:
        clip, reader = load_clip(config, sources, fixed=False)
        network = ClipScoreFusion(clip)
        prepare(network, config.adapters, fresh=())
        if config.checkpoint is not None:
            sources.put_in(network, config.checkpoint)
        return cls(network, reader, batch_size=config.batch_size, facts={"max_tokens": reader.max_tokens})

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}


def load_clip(config: Any, sources: Any, *, fixed: bool) -> tuple[nn.Module, PairReader]:
    """A CLIP of a local folder in float32, and what reads for it. Texts are padded with 0, as OpenAI's tokenizer does."""
    from transformers import CLIPModel

    tokenizer, processor = load_reading(config.folder, "CLIP")
    clip = load_folder(CLIPModel, config.folder, "CLIP", torch.float32)
    positions = clip.config.text_config.max_position_embeddings
    length = min(config.max_tokens or positions, positions)
    return clip, PairReader(tokenizer, processor, sources.pictures, max_tokens=length, pad_id=0, fixed=fixed)
