"""GeMKR: a frozen vision tower with object-aware prefix, a text encoder, projectors, and a language model with LoRA.

Turns batches into losses and prompts into logits, as every `Writer`. Knows nothing of indexes, clues' meaning, checkpoints or
files other than the base models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from gemkr.errors import ModelError
from gemkr.models.gemkr.batch import Batch, collate, hide_words
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.inputs import Example, InputBuilder
from gemkr.models.gemkr.prefix import PrefixedTower, keep_rows
from gemkr.models.gemkr.projector import Projector
from gemkr.models.gemkr.rows import RankWeight
from gemkr.models.gemkr.writer import Writer
from gemkr.models.hf.llm import LLM, CacheState
from gemkr.models.hf.llm_folder import load_llm
from gemkr.models.hf.text_encoder import TextEncoder, TextReader, load_text_encoder
from gemkr.models.precision import PRECISIONS
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.vision.encode import Tower, load_tower
from gemkr.vision.protocols import Pictures, Regions


class GeMKR(Writer):
    """The whole network. Without a tower it is a text-only model that ignores pictures."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        llm: LLM,
        tower: Tower | None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__(llm, tokenizer, config.precision, config.llm)
        self.config = config
        self.tower = None if tower is None else PrefixedTower(tower, config.prefix)
        self.projector = None
        if tower is not None:
            _check_visual_tokens(config)
            self.projector = Projector(tower.width, llm.hidden_size, llm.embedding_scale)
        self.text_encoder = text_encoder
        if text_encoder is not None:
            self.text_projector = Projector(
                text_encoder.width, llm.hidden_size, llm.embedding_scale, boxed=False
            )

    def bases(self) -> dict[str, str | tuple[float, ...]]:
        """What distinguishes the frozen weights from others, by part (`llm`, `tower`, `text_encoder`): a checkpoint does not hold
        them. A part without frozen weights is left out."""
        found: dict[str, str | tuple[float, ...]] = {}
        if sample := self.llm.frozen_sample():
            found["llm"] = sample
        if self.tower is not None:
            found["tower"] = self.tower.tower.fingerprint
        if self.text_encoder is not None:
            found["text_encoder"] = self.text_encoder.frozen_fingerprint()
        return found

    def input_builder(
        self,
        images: Pictures | None = None,
        regions: Regions | None = None,
        *,
        max_prompt_tokens: int | None = None,
        hide_regions: float = 0.0,
    ) -> InputBuilder:
        """What makes this model's examples; it carries no weights."""
        tower = None if self.tower is None else self.tower.tower
        reader = (
            None if self.text_encoder is None else TextReader(self.config.text_encoder, self.config.prompt)
        )
        return InputBuilder(
            self.config,
            self.tokenizer,
            preprocess=None if tower is None else tower.preprocess,
            width=0 if tower is None else tower.width,
            encoder=None if tower is None else tower.fingerprint,
            images=images,
            regions=regions,
            reader=reader,
            max_prompt_tokens=max_prompt_tokens,
            hide_regions=hide_regions,
        )

    def collator(self, rank: RankWeight | None = None) -> Callable[[Sequence[Example]], Batch]:
        """What makes a batch of examples, without weights; with `rank` one for the rank loss."""
        return partial(collate, pad_id=self.tokenizer.pad_id, eos_id=self.tokenizer.eos_ids[0], rank=rank)

    def forward(self, batch: Batch) -> torch.Tensor:
        """As a `Writer`'s; in training some words of prompts are hidden first."""
        if self.training and self.config.prompt_dropout:
            batch = hide_words(batch, self.config.prompt_dropout)
        return super().forward(batch)

    def _logits(self, batch: Batch, last: int) -> torch.Tensor:
        return self.llm.logits(self._embeddings(batch), batch.mask, last=last)

    def _states(self, batch: Batch) -> torch.Tensor:
        embeddings = torch.cat([self._embeddings(batch), self.llm.embed(batch.clues.tokens)], dim=1)
        return self.llm.hidden(embeddings, batch.visible(), batch.positions(), batch.real())

    def _prefill(self, batch: Batch) -> tuple[torch.Tensor, CacheState]:
        return self.llm.prefill(self._embeddings(batch), batch.mask)

    def _embeddings(self, batch: Batch) -> torch.Tensor:
        """[B, T, hidden]: the tokens' embeddings, with visual tokens and states of read text in the slots."""
        embeddings = self.llm.embed(batch.tokens)
        if batch.text is not None:
            row, position, which = batch.text_slots.unbind(dim=1)
            states = self.text_projector(self.text_encoder(batch.text, batch.text_mask))[row, which]
            embeddings = embeddings.index_put((row, position), states.to(embeddings.dtype))
        if not len(batch.slots):
            return embeddings
        row, position, picture, which = batch.slots.unbind(dim=1)
        visual = self._visual_tokens(batch)[picture, which]
        return embeddings.index_put((row, position), visual.to(embeddings.dtype))

    def _visual_tokens(self, batch: Batch) -> torch.Tensor:
        """[P, whole + R, hidden]: CLS, the first rows of the last prefix, the regions in reading order."""
        shown = self.config.visual_tokens
        features = keep_rows(batch.features, batch.counts)
        parts = []
        if batch.pixels is not None:
            cls, rows = self.tower(batch.pixels, features)
            states = [cls[:, None]] if shown.cls else []
            if self.config.prefix.blocks:
                states.append(rows[:, : shown.prefix_rows])
            parts.append(self.projector(torch.cat(states, dim=1)))
        if shown.regions:
            order = batch.region_order[:, :, None]
            ordered = features.gather(1, order.expand(-1, -1, features.shape[2]))
            boxes = batch.boxes.gather(1, order.expand(-1, -1, 4))
            parts.append(self.projector(ordered, boxes))
        return torch.cat([part.float() for part in parts], dim=1)


def load_gemkr(
    config: ModelConfig,
    *,
    device: str | torch.device = "cpu",
) -> GeMKR:
    """Build the network from local base models, in evaluation mode.

    `config.checkpoint` is not read here: `gemkr.training.checkpoints.trained` puts trained parameters in. Raises ModelError,
    VisionError, TokenizerError or CheckpointError for parts that are missing or do not fit.
    """
    tokenizer = load_tokenizer(config.tokenizer or config.llm)
    llm = load_llm(
        config.llm,
        lora=config.lora,
        train_llm=config.train_llm,
        precision=config.precision,
        dropout=config.dropout,
        fused=config.fused,
    )
    tower = None
    if config.tower is not None:
        tower = load_tower(config.tower).to(PRECISIONS[config.precision])
    text_encoder = None if config.text_encoder is None else load_text_encoder(config.text_encoder)
    model = GeMKR(config, tokenizer, llm, tower, text_encoder)
    for parameter in model.trainable_parameters().values():
        parameter.data = parameter.data.float()
    return model.to(device).eval()


def _check_visual_tokens(config: ModelConfig) -> None:
    shown = config.visual_tokens
    if not 0 <= shown.prefix_rows <= config.prefix.rows:
        raise ModelError(
            f"visual_tokens.prefix_rows is {shown.prefix_rows}, the prefix has {config.prefix.rows} rows; lower it"
        )
    if not (shown.cls or shown.regions or (shown.prefix_rows and config.prefix.blocks)):
        raise ModelError(
            "the model has a tower and shows the LLM nothing of it; set visual_tokens.cls or .regions"
        )
