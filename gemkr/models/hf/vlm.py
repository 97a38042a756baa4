"""A vision-language model as an encoder (VLM2Vec, LamRA-Ret): the state of one token of the last layer, of length 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Positive
from gemkr.models.embedder import Embedder, Inputs
from gemkr.models.hf.adapters import VISION, AdapterConfig, prepare
from gemkr.models.hf.folder import load_folder
from gemkr.models.hf.vlm_folder import load_parts
from gemkr.models.hf.vlm_reader import VlmReader
from gemkr.models.precision import dtype_of
from gemkr.models.weights import trained_parameters


class VlmNetwork(nn.Module):
    """Inputs of n prompts -> float32[n, width] of length 1: the state of each prompt's last token."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.width = model, model.config.get_text_config().hidden_size

    def forward(self, inputs: Inputs) -> Tensor:
        states = self.model(**inputs, use_cache=False).last_hidden_state
        last = inputs["attention_mask"].sum(dim=1) - 1
        return F.normalize(states[torch.arange(len(last), device=last.device), last].float(), dim=-1)


class VlmEncoder(Embedder):
    """An `Encoder` over a local folder of Qwen2-VL, Qwen2.5-VL, Qwen3-VL, LLaVA, LLaVA-NeXT, LLaVA-OneVision, Idefics3 or SmolVLM."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """A folder of a vision-language model. `template`: vlm2vec, lamra, or a text with {image}, {text} and {kind} (image,
        sentence, image and sentence); `image`: what {image} stands for, with {tokens} in it. The vector is the state of the `last`
        token, or of that `before:<emb>`. {kind} is `document_picture` for documents that are a picture alone (LamRA is evaluated with
        "image and sentence", and trained with image). With `tidy`, texts get a capital first and a full stop last, as LamRA reads M-BEIR's.
        Pictures are resized to between `min_pixels` and `max_pixels`, where the model takes pictures of any size; before that to a
        `square` of so many pixels a side, whatever their shape, as VLM2Vec's first version does (1344). In training the
        vision tower stays as it is; with `adapters` only these learn. Weights are kept in `precision` (fp32, bf16, fp16), those
        that learn, or learned here, in fp32."""

        folder: FilePath
        checkpoint: FilePath | None = None
        adapters: AdapterConfig | None = None
        template: str = "vlm2vec"
        image: str | None = None
        pool: str = "last"
        max_tokens: Positive = 480
        tidy: bool = False
        square: Positive | None = None
        document_picture: str = "image"
        min_pixels: Positive | None = None
        max_pixels: Positive | None = None
        precision: str = "fp32"
        batch_size: Positive = 8

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> VlmEncoder:
        """ModelError for a folder of another kind of model, or settings that do not go together."""
        from transformers import AutoModel

        dtype = dtype_of(config.precision)
        parts = load_parts(config.folder)
        reader = VlmReader(
            parts, sources.pictures,
            template=config.template, image=config.image, pool=config.pool, max_tokens=config.max_tokens, tidied=config.tidy,
            square=config.square, alone=config.document_picture,
        )  # fmt: skip
        parts.limit_pixels(config.min_pixels, config.max_pixels)
        model = load_folder(AutoModel, config.folder, "VLM", dtype)
        network = VlmNetwork(model)
        prepare(network, config.adapters, fresh=())
        for name, parameter in network.named_parameters():
            if VISION.search(name):
                parameter.requires_grad_(False)
        if config.checkpoint is not None:
            for parameter in trained_parameters(network).values():
                parameter.data = parameter.data.float()
            sources.put_in(network, config.checkpoint)
        facts = {
            name: getattr(config, name)
            for name in ("template", "image", "pool", "max_tokens", "min_pixels", "max_pixels")
        }
        facts |= {"tidy": True} if config.tidy else {}
        facts |= {"square": config.square} if config.square else {}
        facts |= {"alone": config.document_picture} if config.document_picture != "image" else {}
        return cls(network, reader, batch_size=config.batch_size, facts=facts)

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folder and the checkpoint."""
        return {"encoder": config.folder, "encoder.checkpoint": config.checkpoint}
