"""A language model that learns clues and writes them: the losses of batches, and decoding (`LanguageModel`).

How the rows of a batch become states is for its subclasses; so are pictures. Knows nothing of indexes, checkpoints or files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gemkr.errors import ModelError
from gemkr.models.gemkr import branches
from gemkr.models.gemkr.branches import BranchState
from gemkr.models.gemkr.prompt import IGNORED_LABEL
from gemkr.models.gemkr.rank_loss import ranked_loss
from gemkr.models.gemkr.rows import RankWeight, Rows
from gemkr.models.gemkr.slots import Slots
from gemkr.models.hf.llm import LLM, CacheState
from gemkr.models.precision import PRECISIONS, autocast
from gemkr.models.weights import trained_parameters
from gemkr.text.tokenizer import Tokenizer


class Writer(nn.Module, ABC):
    """A `LanguageModel` whose prompts are examples, over an `LLM` with adapters; `precision` is that of its frozen weights.

    A subclass also makes examples (`input_builder`) and batches of them (`collator`), and says what distinguishes its frozen
    weights from others (`bases`).
    """

    def __init__(self, llm: LLM, tokenizer: Tokenizer, precision: str, folder: str) -> None:
        """ModelError for a tokenizer that knows more tokens than the model in `folder`."""
        super().__init__()
        if tokenizer.vocab_size > llm.vocab_size:
            raise ModelError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, the LLM {folder} knows {llm.vocab_size}; "
                "use the tokenizer it was trained with"
            )
        self.llm, self.tokenizer, self._precision = llm, tokenizer, precision

    @abstractmethod
    def collator(self, rank: RankWeight | None = None) -> Callable[[Sequence[Any]], Rows]:
        """What makes a batch of examples, without weights; with `rank` one for the rank loss."""

    def collate(self, examples: Sequence[Any]) -> Rows:
        """One batch of examples."""
        return self.collator()(examples)

    @abstractmethod
    def _logits(self, batch: Rows, last: int) -> torch.Tensor:
        """float32[B, last, V] at the last positions of the rows."""

    @abstractmethod
    def _states(self, batch: Rows) -> torch.Tensor:
        """[B, T + S, hidden]: the last states of the rows and of the S tokens of the clues behind them."""

    @abstractmethod
    def _prefill(self, batch: Rows) -> tuple[torch.Tensor, CacheState]:
        """The logits after each row, float32[B, V], and what later tokens read of it."""

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

    def forward(self, batch: Rows) -> torch.Tensor:
        """The mean cross entropy (natural logarithm, float32) over all targets of the batch; where its clues have rewards,
        `ranked_loss`."""
        if batch.clues is None:
            logits, labels = self._target_logits(batch)
            return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED_LABEL)
        if batch.clues.rank is None:
            return self._shared_loss(batch)
        return ranked_loss(self.clue_log_probs(batch), batch.clues)

    def token_losses(self, batch: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """Per row: the summed cross entropy float32[B] and the number of labels int64[B]."""
        logits, labels = self._target_logits(batch)
        losses = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED_LABEL, reduction="none")
        return losses.sum(dim=1), (labels != IGNORED_LABEL).sum(dim=1)

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Any]) -> tuple[torch.Tensor, BranchState]:
        """The logits after each prompt, float32[Q, V], and the state of Q beams (see `LanguageModel`)."""
        batch = self.collate(prompts).to(self.device)
        with self._autocast():
            logits, state = self._prefill(batch)
        return logits, BranchState.root(state)

    @torch.no_grad()
    def step(self, tokens: torch.Tensor, state: BranchState) -> tuple[torch.Tensor, BranchState]:
        """Feed one token per row, int64[B]: logits float32[B, V] and the new state (see `LanguageModel`)."""
        with self._autocast():
            return branches.step(self.llm, tokens.to(self.device), state)

    def slots(self, state: BranchState, queries: int, beams: int, steps: int) -> Slots:
        """Room for prompts like those of `state`, in a cache of fixed size (see `SlottedModel`)."""
        return Slots(self.llm, state, queries, beams, steps, self._autocast)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Everything that learns, by name: LoRA (or the LLM), prefixes, gates, text encoder, projectors."""
        return trained_parameters(self)

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Detached copies of the trained parameters, on the CPU."""
        return {name: p.detach().cpu().clone() for name, p in self.trainable_parameters().items()}

    def _target_logits(self, batch: Rows) -> tuple[torch.Tensor, torch.Tensor]:
        """float32[B, n, V] and the labels int64[B, n] they are to predict; n spans the longest clue."""
        learned = (batch.labels != IGNORED_LABEL).any(dim=0)
        if not bool(learned.any()):
            raise ModelError("the batch holds no clue to learn; build its examples with clue=")
        n = batch.labels.shape[1] - int(learned.int().argmax())
        with self._autocast():
            logits = self._logits(batch, n + 1)
        return logits[:, :-1], batch.labels[:, -n:]

    def _shared_loss(self, batch: Rows) -> torch.Tensor:
        """The mean over all targets of the clues behind prompts."""
        clues = batch.clues
        if self.llm.fused:
            begun, rest, _ = self.target_losses(batch)
            return (begun.sum() + rest.sum()) / (len(begun) + len(rest))
        first, later, slots = self._clue_logits(batch)
        begun = first.log_softmax(dim=-1)[clues.owner, clues.first]
        rest = F.cross_entropy(later, clues.targets[slots], reduction="sum")
        return (rest - begun.sum()) / (len(begun) + len(later))

    def clue_log_probs(self, batch: Rows) -> torch.Tensor:
        """float32[C]: the log-probability of each clue behind a prompt, its end included."""
        begun, rest, slots = self.target_losses(batch)
        return -begun.index_add(0, batch.clues.clue_of_slots()[slots], rest)

    def target_losses(self, batch: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
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

    def _clue_logits(self, batch: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits for targets only: float32[B, V] behind each prompt, float32[n, V] in the slots that bool[B, S] names."""
        with self._autocast():
            first, later, slots = self._clue_states(batch)
            return self.llm.head(first).float(), self.llm.head(later).float(), slots

    def _clue_states(self, batch: Rows) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What `_clue_logits` is read from: [B, hidden], [n, hidden] and bool[B, S]."""
        slots, length = batch.clues.targets != IGNORED_LABEL, batch.tokens.shape[1]
        states = self._states(batch)
        return states[:, length - 1], states[:, length:][slots], slots

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, PRECISIONS[self._precision])
