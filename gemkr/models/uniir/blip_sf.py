"""BLIP with score fusion (UniIR's BLIP_SF): the sum of the projected first states of text encoder and vision tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.errors import ModelError
from gemkr.models.embedder import Embedder, Inputs
from gemkr.models.hf.adapters import AdapterConfig, prepare
from gemkr.models.hf.folder import load_folder
from gemkr.models.uniir.fusion import summed
from gemkr.models.uniir.reader import PairReader, load_reading
from gemkr.models.weights import new_weights

MAX_TOKENS = 100
"""Of a text, in UniIR."""
PROJECTIONS = ("text_projection", "visual_projection")


class BlipScoreFusion(nn.Module):
    """Inputs of n items -> float[n, width] of length 1. The text encoder reads texts alone: its cross-attention is not used and
    does not learn."""

    def __init__(self, blip: nn.Module) -> None:
        super().__init__()
        self.text_encoder, self.text_projection = blip.text_encoder, blip.text_proj
        self.vision_model, self.visual_projection = blip.vision_model, blip.vision_proj
        self.width = blip.config.image_text_hidden_size

    def forward(self, inputs: Inputs) -> Tensor:
        return summed(inputs, self._text, self._image, self.width)

    def _text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        return self.text_projection(states[:, 0])

    def _image(self, pixels: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(pixel_values=pixels).last_hidden_state[:, 0])


class BlipScoreFusionEncoder(Embedder):
    """An `Encoder` over a local folder of transformers' BLIP for retrieval."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A folder of BLIP; `checkpoint` of `gemkr train`; with `adapters` only these learn, else all weights. Of a longer text
        the first `max_tokens` tokens are read. Pictures have `image_size` pixels a side (default: the folder's; UniIR: 224). With another `space` than the
        folder's, the projections into so many numbers are new and learned (UniIR: 768)."""

        folder: FilePath
        checkpoint: FilePath | None = None
        adapters: AdapterConfig | None = None
        max_tokens: Positive = MAX_TOKENS
        image_size: Positive | None = None
        space: Positive | None = None
        batch_size: Positive = 32

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> BlipScoreFusionEncoder:
        blip, reader = load_blip(config, sources)
        fresh = PROJECTIONS if config.space is not None and new_space(blip, config.space) else ()
        network = BlipScoreFusion(blip)
        prepare(network, config.adapters, fresh=fresh)
        for name, parameter in network.text_encoder.named_parameters():
            if "crossattention" in name:
                parameter.requires_grad_(False)
        if config.checkpoint is not None:
            sources.put_in(network, config.checkpoint)
        return cls(network, reader, batch_size=config.batch_size, facts={"max_tokens": reader.max_tokens})

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}


def new_space(blip: nn.Module, space: int) -> bool:
    """Give a BLIP new projections into a shared space of `space` numbers, the same ones every time; False where it has that many."""
    if blip.config.image_text_hidden_size == space:
        return False
    with new_weights():
        blip.text_proj = nn.Linear(blip.text_proj.in_features, space)
        blip.vision_proj = nn.Linear(blip.vision_proj.in_features, space)
    blip.config.image_text_hidden_size = space
    return True


def load_blip(config: Any, sources: Any) -> tuple[nn.Module, PairReader]:
    """A BLIP of a local folder in float32, and what reads for it; ModelError for an `image_size` that patches do not fill."""
    from transformers import BlipForImageTextRetrieval

    tokenizer, processor = load_reading(config.folder, "BLIP")
    blip = load_folder(BlipForImageTextRetrieval, config.folder, "BLIP", torch.float32, spare="itm_head")
    if config.image_size is not None:
        resize_positions(blip.vision_model, config.image_size)
        processor.size = {"height": config.image_size, "width": config.image_size}
    length = min(config.max_tokens, blip.config.text_config.max_position_embeddings)
    reader = PairReader(
        tokenizer, processor, sources.pictures, max_tokens=length, pad_id=tokenizer.pad_token_id or 0, fixed=False
    )  # fmt: skip
    return blip, reader


@torch.no_grad()
def resize_positions(tower: nn.Module, size: int) -> None:
    """Let BLIP's vision tower read pictures of `size` pixels a side: its positions become a grid of size / patch a side, by bicubic
    interpolation, as BLIP's authors do. ModelError where patches do not fill such a picture."""
    embeddings = tower.embeddings
    side, rest = divmod(size, embeddings.patch_size)
    if rest or not side:
        raise ModelError(
            f"encoder.image_size {size} is no multiple of the tower's patches of {embeddings.patch_size} pixels; take one that is"
        )
    positions = embeddings.position_embedding
    grid = positions[0, 1:].T.unflatten(1, (round((positions.shape[1] - 1) ** 0.5), -1))
    if grid.shape[1] != side:
        grid = F.interpolate(grid[None], size=(side, side), mode="bicubic", align_corners=False)[0]
        moved = torch.cat([positions[:, :1], grid.flatten(1).T[None]], dim=1)
        embeddings.position_embedding = nn.Parameter(moved.contiguous())
    embeddings.image_size = tower.config.image_size = size
    embeddings.num_patches, embeddings.num_positions = side**2, side**2 + 1
