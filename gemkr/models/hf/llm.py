"""A causal language model of the LLaMA family: embeddings to logits, losses and hidden states, and decoding with a KV cache.

Works on input embeddings; knows nothing of pictures, prompts, indexes or files.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from gemkr.models.hf.fused import FusedLlama, require_fusable
from gemkr.models.hf.fused_parts import TargetLoss


@dataclass(frozen=True, slots=True)
class CacheState:
    """The memory of B rows: `cache` of keys and values, `mask` int64[B, T] (0 = padding), `positions` int64[B] next."""

    cache: Any
    mask: torch.Tensor
    positions: torch.Tensor

    def select(self, rows: torch.Tensor) -> CacheState:
        """Rows `rows` (int64[B'], repeats and drops allowed); the old state stays valid."""
        rows = torch.as_tensor(rows, dtype=torch.int64, device=self.mask.device)
        cache = shallow_copy(self.cache)
        for layer in cache.layers:
            layer.reorder_cache(rows)
        return CacheState(cache, self.mask[rows], self.positions[rows])


class LLM(nn.Module):
    """A Hugging Face causal LM, frozen except its LoRA or, with `train_llm`, trained as a whole."""

    def __init__(self, model: nn.Module, *, fused: bool = False) -> None:
        """With `fused` (`ModelConfig`) whole rows are read by `FusedLlama`; ModelError for a model it is not for."""
        super().__init__()
        if fused:
            require_fusable(model)
        self.model, self.fused = model, fused
        known = inspect.signature(model.base_model.forward).parameters
        self._cache = "cache" if "cache" in known else "past_key_values"  # the older name

    @property
    def vocab_size(self) -> int:
        """Columns of the logits; may exceed the tokenizer's vocabulary."""
        return self.model.get_output_embeddings().weight.shape[0]

    @property
    def hidden_size(self) -> int:
        return self.model.get_input_embeddings().weight.shape[1]

    @property
    def body(self) -> nn.Module:
        """The model without its output head: embeddings to hidden states."""
        return self.model.base_model

    @cached_property
    def _pass(self) -> FusedLlama:
        return FusedLlama(self.model)

    @property
    def head(self) -> nn.Module:
        """Hidden states to logits."""
        return self.model.get_output_embeddings()

    @property
    def embedding_scale(self) -> float:
        """Standard deviation of the input embeddings."""
        return float(self.model.get_input_embeddings().weight.detach().float().std())

    def frozen_sample(self) -> tuple[float, ...]:
        """Some values out of some matrices that do not learn, first to last by name; () when all of them learn. The same
        model gives the same ones, whatever files it lies in, up to the rounding of the precision it is loaded in."""
        frozen = sorted(
            (n, p) for n, p in self.model.named_parameters() if not p.requires_grad and p.dim() == 2
        )
        last = len(frozen) - 1
        matrices = [
            frozen[i][1].detach().flatten() for i in sorted({last * k // 15 for k in range(16)}) if frozen
        ]
        return tuple(float(m[k * (m.numel() - 1) // 7]) for m in matrices for k in range(8))

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64[B, T] -> [B, T, hidden]."""
        return self.model.get_input_embeddings()(tokens)

    def logits(self, embeddings: torch.Tensor, mask: torch.Tensor, last: int) -> torch.Tensor:
        """float32[B, last, V] at the last positions of left-padded [B, T, hidden], mask int64[B, T]."""
        if self.fused:
            states = self.hidden(embeddings, _causal(mask), row_positions(mask), mask.bool())
            last_states = states[:, -last:].contiguous()  # else torch copies the head for each row
            return self.head(last_states).float()
        output = self.model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=row_positions(mask),
            use_cache=False,
            logits_to_keep=last,
        )
        return output.logits.float()

    def prefill(self, embeddings: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, CacheState]:
        """As `logits` with last = 1, keeping keys and values: float32[B, V] and the state of B rows."""
        positions = row_positions(mask)
        if self.fused:
            states, cache = self._pass.extend(embeddings, _causal(mask), positions, mask.bool())
            return self.head(states[:, -1]).float(), CacheState(cache, mask, positions[:, -1] + 1)
        output = self.model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        state = CacheState(getattr(output, self._cache), mask, positions[:, -1] + 1)
        return output.logits[:, -1].float(), state

    def hidden(
        self, embeddings: torch.Tensor, visible: torch.Tensor, positions: torch.Tensor, real: torch.Tensor
    ) -> torch.Tensor:
        """The last hidden states [B, T, hidden] of rows in which token i sees the tokens `visible` bool[B, i, T] marks;
        those where `real` bool[B, T] marks no token mean nothing."""
        if self.fused:
            return self._pass(embeddings, visible, positions, real)
        return self.body(
            inputs_embeds=embeddings,
            attention_mask=additive_mask(visible, embeddings.dtype),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state

    def target_losses(
        self, states: torch.Tensor, owners: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """The cross entropy float32[n] of `targets` int64[n], each behind the state `owners` int64[n] of [R, hidden]."""
        if self.fused:
            return TargetLoss.apply(states, self.head.weight.to(states.dtype), owners, targets)
        return -self.head(states).float().log_softmax(dim=-1)[owners, targets]

    def extend(
        self,
        embeddings: torch.Tensor,
        visible: torch.Tensor,
        positions: torch.Tensor,
        real: torch.Tensor,
        cache: Any,
    ) -> tuple[torch.Tensor, Any]:
        """As `hidden` for [B, T, hidden] that go on after what `cache` holds, K tokens of each row, with `visible`
        bool[B, T, K + T]: the last states and the cache, which has grown."""
        if self.fused:
            return self._pass.extend(embeddings, visible, positions, real, cache)
        output = self.body(
            inputs_embeds=embeddings,
            attention_mask=additive_mask(visible, embeddings.dtype),
            position_ids=positions,
            use_cache=True,
            **{self._cache: cache},
        )
        return output.last_hidden_state, getattr(output, self._cache)


def additive_mask(visible: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """[B, 1, Q, K]: 0 where `visible` bool[B, Q, K], else the least number; a row that sees nothing stays finite."""
    shown = torch.zeros((), dtype=dtype, device=visible.device)
    return torch.where(visible, shown, torch.finfo(dtype).min)[:, None]


def _causal(mask: torch.Tensor) -> torch.Tensor:
    """bool[B, T, T]: each token of left-padded rows sees the real ones up to itself."""
    real = mask.bool()
    return real[:, None] & real.new_ones(real.shape[1], real.shape[1]).tril()


def row_positions(mask: torch.Tensor) -> torch.Tensor:
    """int64[B, T]: 0 at the first real token of a left-padded row."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def shallow_copy(cache: Any) -> Any:
    """A cache whose growth or reordering leaves the original alone; keys and values are shared until then."""
    copied = copy.copy(cache)
    copied.layers = [copy.copy(layer) for layer in cache.layers]
    return copied
