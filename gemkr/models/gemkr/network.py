"""GeMKR: a frozen vision tower with object-aware prefix, a text encoder, projectors, and a language model with LoRA.

Turns batches into losses for training and prompts into logits for decoding (`LanguageModel`). Knows nothing of
indexes, clues' meaning, checkpoints or files other than the base models.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from gemkr.errors import ModelError
from gemkr.models.gemkr import branches
from gemkr.models.gemkr.batch import Batch, collate, hide_words
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.inputs import Example, InputBuilder
from gemkr.models.gemkr.prefix import PrefixedTower, keep_rows
from gemkr.models.gemkr.projector import Projector
from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.models.gemkr.rank_loss import ranked_loss
from gemkr.models.hf.llm import LLM, PRECISIONS, load_llm
from gemkr.models.hf.text_encoder import TextEncoder, TextReader, load_text_encoder
from gemkr.models.weights import trained_parameters
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.vision.encode import Tower, load_tower
from gemkr.vision.protocols import Pictures, Regions


class GeMKR(nn.Module):
    """The whole network. Without a tower it is a text-only model that ignores pictures."""

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        llm: LLM,
        tower: Tower | None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        super().__init__()
        if tokenizer.vocab_size > llm.vocab_size:
            raise ModelError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the LLM {config.llm} knows {llm.vocab_size}; "
                "use the tokenizer it was trained with"
            )
        self.config = config
        self.tokenizer = tokenizer
        self.llm = llm
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

    @property
    def vocab_size(self) -> int:
        """Columns of the logits; may exceed the tokenizer's vocabulary."""
        return self.llm.vocab_size

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        return tuple(self.tokenizer.eos_ids)

    @property
    def device(self) -> torch.device:
        return next(self.llm.parameters()).device

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

    def collate(self, examples: Sequence[Example]) -> Batch:
        """One batch of examples."""
        return collate(examples, self.tokenizer.pad_id, self.tokenizer.eos_ids[0])

    def forward(self, batch: Batch) -> torch.Tensor:
        """The mean cross entropy (natural logarithm, float32) over all targets of the batch; where its clues have rewards,
        `ranked_loss`."""
        if self.training and self.config.prompt_dropout:
            batch = hide_words(batch, self.config.prompt_dropout)
        if batch.clues is None:
            logits, labels = self._target_logits(batch)
            return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL)
        if batch.clues.rank is None:
            return self._shared_loss(batch)
        return ranked_loss(self.clue_log_probs(batch), batch.clues)

    def token_losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Per row: the summed cross entropy float32[B] and the number of labels int64[B]."""
        logits, labels = self._target_logits(batch)
        losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED_LABEL, reduction="none")
        return losses.sum(dim=1), (labels != IGNORED_LABEL).sum(dim=1)

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Example]) -> tuple[torch.Tensor, BranchState]:
        """The logits after each prompt, float32[Q, V], and the state of Q beams (see `LanguageModel`)."""
        batch = self.collate(prompts).to(self.device)
        with self._autocast():
            logits, state = self.llm.prefill(self._embeddings(batch), batch.mask)
        return logits, BranchState.root(state)

    @torch.no_grad()
    def step(self, tokens: torch.Tensor, state: BranchState) -> tuple[torch.Tensor, BranchState]:
        """Feed one token per row, int64[B]: logits float32[B, V] and the new state (see `LanguageModel`)."""
        with self._autocast():
            return branches.step(self.llm, tokens.to(self.device), state)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that learns, by name: LoRA (or the LLM), prefixes, gates, text encoder, projectors."""
        return trained_parameters(self)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Detached copies of the trained parameters, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.trainable_parameters().items()}

    def _target_logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """float32[B, n, V] and the labels int64[B, n] they are to predict; n spans the longest clue."""
        learned = (batch.labels != IGNORED_LABEL).any(dim=0)
        if not bool(learned.any()):
            raise ModelError("the batch holds no clue to learn; build its examples with clue=")
        n = batch.labels.shape[1] - int(learned.int().argmax())
        with self._autocast():
            logits = self.llm.logits(self._embeddings(batch), batch.mask, last=n + 1)
        return logits[:, :-1], batch.labels[:, -n:]

    def _shared_loss(self, batch: Batch) -> torch.Tensor:
        """The mean over all targets of the clues behind prompts."""
        clues = batch.clues
        if self.llm.fused:
            begun, rest, _ = self.target_losses(batch)
            return (begun.sum() + rest.sum()) / (len(begun) + len(rest))
        first, later, slots = self._clue_logits(batch)
        begun = first.log_softmax(dim=-1)[clues.owner, clues.first]
        rest = F.cross_entropy(later, clues.targets[slots], reduction="sum")
        return (rest - begun.sum()) / (len(begun) + len(later))

    def clue_log_probs(self, batch: Batch) -> torch.Tensor:
        """float32[C]: the log-probability of each clue behind a prompt, its end included."""
        begun, rest, slots = self.target_losses(batch)
        return -begun.index_add(0, batch.clues.clue_of_slots()[slots], rest)

    def target_losses(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The cross entropy of each target of the clues behind prompts: float32[C] of their first tokens, float32[n] of what
        follows them in the slots that bool[B, S] names."""
        clues = batch.clues
        if self.llm.fused:
            with self._autocast():
                first, later, slots = self._clue_states(batch)
                behind = torch.arange(len(first), len(first) + len(later), device=self.device)
                losses = self.llm.target_losses(
                    torch.cat([first, later]),
                    torch.cat([clues.owner, behind]),
                    torch.cat([clues.first, clues.targets[slots]]),
                )
            return losses[: len(clues.owner)], losses[len(clues.owner) :], slots
        first, later, slots = self._clue_logits(batch)
        begun = -first.log_softmax(dim=-1)[clues.owner, clues.first]
        return begun, F.cross_entropy(later, clues.targets[slots], reduction="none"), slots

    def _clue_logits(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits for targets only: float32[B, V] behind each prompt, float32[n, V] in the slots that bool[B, S] names."""
        with self._autocast():
            first, later, slots = self._clue_states(batch)
            return self.llm.head(first).float(), self.llm.head(later).float(), slots

    def _clue_states(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What `_clue_logits` is read from: [B, hidden], [n, hidden] and bool[B, S]."""
        slots, length = batch.clues.targets != IGNORED_LABEL, batch.tokens.shape[1]
        embeddings = torch.cat([self._embeddings(batch), self.llm.embed(batch.clues.tokens)], dim=1)
        states = self.llm.hidden(embeddings, batch.visible(), batch.positions(), batch.real())
        return states[:, length - 1], states[:, length:][slots], slots

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

    def _autocast(self) -> torch.autocast:
        dtype = PRECISIONS[self.config.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)


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
