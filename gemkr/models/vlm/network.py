"""A vision-language model as a `Writer`: the library's own pass over picture and prompt, clues behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from gemkr.models.gemkr.rows import RankWeight
from gemkr.models.gemkr.writer import Writer
from gemkr.models.hf.llm import CacheState
from gemkr.models.hf.vlm_folder import VlmParts, load_parts
from gemkr.models.hf.vlm_llm import VlmLLM, load_vlm
from gemkr.models.vlm.batch import VlmBatch, collate
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.vlm.inputs import VlmExample, VlmInputs
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.vision.protocols import Pictures, Regions


class VlmWriter(Writer):
    """A VLM that reads picture and question itself; its vision tower never learns."""

    llm: VlmLLM

    def __init__(self, config: VlmConfig, tokenizer: Tokenizer, llm: VlmLLM, parts: VlmParts) -> None:
        super().__init__(llm, tokenizer, config.precision, config.folder)
        self.config, self.parts = config, parts

    def bases(self) -> dict[str, str | tuple[float, ...]]:
        """What distinguishes the frozen weights from others: a checkpoint does not hold them."""
        return {"vlm": self.llm.frozen_sample()}

    def input_builder(
        self,
        images: Pictures | None = None,
        regions: Regions | None = None,
        *,
        max_prompt_tokens: int | None = None,
        hide_regions: float = 0.0,
    ) -> VlmInputs:
        """What makes this model's examples; it carries no weights."""
        return VlmInputs(
            self.config,
            self.parts,
            self.tokenizer,
            images=images,
            regions=regions,
            max_prompt_tokens=max_prompt_tokens,
            hide_regions=hide_regions,
        )

    def collator(self, rank: RankWeight | None = None) -> Callable[[Sequence[VlmExample]], VlmBatch]:
        """What makes a batch of examples, without weights; with `rank` one for the rank loss."""
        pad, image = self.tokenizer.pad_id, self.parts.config.image_token_id
        pad_id = next(token for token in (pad, 0, 1) if token != image)
        return partial(
            collate, family=self.parts.family, pad_id=pad_id, eos_id=self.tokenizer.eos_ids[0], rank=rank
        )

    def _logits(self, batch: VlmBatch, last: int) -> torch.Tensor:
        positions = self.llm.positions(batch.tokens, batch.mask, batch.pictures)
        found = self.llm.read(batch.tokens, batch.mask, positions, batch.pictures)
        return self.llm.head(found.last_hidden_state[:, -last:]).float()

    def _states(self, batch: VlmBatch) -> torch.Tensor:
        clues, mask = batch.clues, batch.mask
        positions = self.llm.positions(batch.tokens, mask, batch.pictures)
        behind = self.llm.after(positions, mask)[:, None] + clues.place
        behind = behind.expand(*positions.shape[:-1], -1)
        tokens = torch.cat([batch.tokens, clues.tokens], dim=1)
        positions = torch.cat([positions, behind], dim=-1)
        return self.llm.read(tokens, batch.visible(), positions, batch.pictures).last_hidden_state

    def _prefill(self, batch: VlmBatch) -> tuple[torch.Tensor, CacheState]:
        return self.llm.prefill_rows(batch.tokens, batch.mask, batch.pictures)


def load_vlm_writer(config: VlmConfig, *, device: Any = "cpu") -> VlmWriter:
    """Build the network from its folder, in evaluation mode; `config.checkpoint` is not read here.

    Raises ModelError or TokenizerError for parts that are missing or do not fit.
    """
    parts = load_parts(config.folder)
    parts.limit_pixels(config.min_pixels, config.max_pixels)
    llm = load_vlm(config.folder, lora=config.lora, precision=config.precision)
    model = VlmWriter(config, load_tokenizer(config.folder), llm, parts)
    return model.to(device).eval()
