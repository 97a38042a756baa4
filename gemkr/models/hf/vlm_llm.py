"""A vision-language model as an `LLM`: whole rows are read with their pictures, what follows them by the language part alone.

Pictures are at whatever places the model's image token stands. A row's first positions may be counted in three directions
(Qwen's multi-modal rotary embedding); tokens after it go on from the largest, the same in each direction, as `generate` does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gemkr.errors import ModelError
from gemkr.models.hf.adapters import linear_layers
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.folder import load_folder
from gemkr.models.hf.llm import LLM, CacheState, additive_mask, row_positions
from gemkr.models.hf.llm_folder import add_lora
from gemkr.models.hf.vlm_families import Tensors
from gemkr.models.precision import dtype_of

LANGUAGE = ("language_model", "text_model")
"""What the language part is called in models of transformers."""


class VlmLLM(LLM):
    """A model of class `...ForConditionalGeneration`; its vision part and what joins it to the language part stay frozen."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._typed = hasattr(model.base_model, "get_rope_index")

    @property
    def body(self) -> nn.Module:
        """The language part: embeddings to hidden states."""
        return language_part(self.model)[1]

    def positions(self, tokens: Tensor, mask: Tensor, pictures: Tensors) -> Tensor:
        """int64[B, T], or [3, B, T] where pictures have two directions, of left-padded rows; 0 at the first real token."""
        if not self._typed:
            return row_positions(mask)
        shown = (tokens == self.model.config.image_token_id).to(torch.int32)
        grid = pictures.get("image_grid_thw")
        return self.model.base_model.get_rope_index(tokens, shown, image_grid_thw=grid, attention_mask=mask)[
            0
        ]

    def after(self, positions: Tensor, mask: Tensor) -> Tensor:
        """int64[B]: the position that follows each row."""
        rows = positions.amax(dim=0) if positions.dim() == 3 else positions
        return (rows * mask).amax(dim=1) + 1

    def read(
        self, tokens: Tensor, visible: Tensor, positions: Tensor, pictures: Tensors, *, keep: bool = False
    ) -> Any:
        """The model's own pass over rows int64[B, T] with their pictures: `last_hidden_state` [B, T, hidden], with `keep` also the
        keys and values. `visible` is int64[B, T], 0 for padding, or bool[B, T, T]: what each token sees."""
        if visible.dim() == 3:
            visible = additive_mask(visible, self.model.get_input_embeddings().weight.dtype)
        return self.model.base_model(
            input_ids=tokens, attention_mask=visible, position_ids=positions, use_cache=keep, **pictures
        )

    def prefill_rows(self, tokens: Tensor, mask: Tensor, pictures: Tensors) -> tuple[Tensor, CacheState]:
        """float32[B, V] behind each row, and the state of B rows."""
        positions = self.positions(tokens, mask, pictures)
        found = self.read(tokens, mask, positions, pictures, keep=True)
        state = CacheState(getattr(found, self._cache), mask, self.after(positions, mask))
        return self.head(found.last_hidden_state[:, -1]).float(), state


def load_vlm(folder: str, *, lora: LoraConfig | None, precision: str) -> VlmLLM:
    """Load a local folder (never the network), freeze it, add LoRA to its language part.

    Frozen weights are kept in `precision` (fp32, bf16, fp16), trained ones in float32. Raises ModelError for a folder that
    cannot be read, an unknown precision, and targets that match nothing of the language part.
    """
    from transformers import AutoModelForImageTextToText

    model = load_folder(AutoModelForImageTextToText, folder, "VLM", dtype_of(precision))
    return adapted(model, lora)


def adapted(model: nn.Module, lora: LoraConfig | None) -> VlmLLM:
    """A model as an `LLM`, frozen but for low-rank adapters in its language part."""
    model.requires_grad_(False)
    if lora is not None:
        add_lora(
            model, lora, linear_layers(model, lora.targets, "lora.targets", within=language_part(model)[0])
        )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return VlmLLM(model)


def language_part(model: nn.Module) -> tuple[str, nn.Module]:
    """The full name of the language part and the part itself; ModelError for a model that has none."""
    body = model.base_model
    found = next((name for name in LANGUAGE if hasattr(body, name)), None)
    if found is None:
        raise ModelError(
            f"this {type(model).__name__} has no part called {' or '.join(LANGUAGE)}; give a model of a known family"
        )
    return f"{model.base_model_prefix}.{found}", getattr(body, found)
