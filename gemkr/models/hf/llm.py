"""Causal language models of the LLaMA family: loading a local folder, LoRA, and decoding with a KV cache.

The only door to transformers and peft. Works on input embeddings; knows nothing of pictures, prompts or indexes.
"""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gemkr.errors import ModelError, first_line
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.folder import load_folder
from gemkr.models.hf.fused import FusedLlama, require_fusable
from gemkr.models.hf.fused_parts import TargetLoss
from gemkr.models.hf.gguf_llama import read_gguf_llama
from gemkr.models.precision import dtype_of
from gemkr.text.gguf_file import is_gguf


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


def load_llm(
    folder: str,
    *,
    lora: LoraConfig | None,
    train_llm: bool,
    precision: str,
    dropout: float = 0.0,
    fused: bool = False,
) -> LLM:
    """Load a local Hugging Face folder or GGUF file (never the network), freeze it, add LoRA.

    Frozen weights are kept in `precision` (fp32, bf16, fp16), trained ones in float32. `dropout` goes with `train_llm`, `fused` with frozen ones.
    Raises ModelError for a folder that holds no causal LM or not all of its weights, an unknown precision, settings that
    exclude each other, and targets that match nothing.
    """
    from transformers import AutoModelForCausalLM

    dtype = dtype_of(precision)
    if lora is not None and train_llm:
        raise ModelError(
            "LoRA and training the whole LLM exclude each other; set lora: null or train_llm: false"
        )
    if dropout and not train_llm:
        raise ModelError(
            f"dropout {dropout} is for an LLM that is trained whole; set train_llm, or lora.dropout in its place"
        )
    if (Path(folder) / "trained.safetensors").is_file():
        raise ModelError(
            f"the LLM folder {folder} is a checkpoint of gemkr; set model.checkpoint to it, and model.llm to the LLM that its "
            "config.json names"
        )
    dtype = torch.float32 if train_llm else dtype
    if is_gguf(folder):
        model = read_gguf_llama(folder, dtype)
    elif (Path(folder) / "config.json").is_file():
        model = load_folder(AutoModelForCausalLM, folder, "LLM", dtype)
    else:
        raise ModelError(f"the LLM folder {folder} holds no config.json; give a local Hugging Face folder")
    model.requires_grad_(train_llm)
    if lora is not None:
        add_lora(model, lora)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if dropout:
        _add_dropout(model, dropout)
    return LLM(model, fused=fused)


def _add_dropout(model: nn.Module, share: float) -> None:
    """Drop a share of embeddings, feed-forward outputs and last states in training; LLaMA itself drops nothing there."""

    def drop(module: nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(output, share, module.training)

    body = model.base_model
    try:
        places = [model.get_input_embeddings(), *(layer.mlp for layer in body.layers), body.norm]
    except AttributeError as error:
        raise ModelError(
            f"dropout needs a model of the LLaMA family, this {type(model).__name__} is built otherwise; set it to 0"
        ) from error
    for place in places:
        place.register_forward_hook(drop)


def add_lora(model: nn.Module, lora: LoraConfig, targets: str | None = None) -> None:
    """Put trainable low-rank adapters into a frozen model, at `targets` in place of the settings' own; ModelError when the
    targets match nothing."""
    import peft

    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets or lora.targets,
        use_dora=lora.dora,
    )
    try:
        peft.inject_adapter_in_model(settings, model)
    except (ValueError, re.error) as error:
        raise ModelError(f"LoRA cannot be added at {lora.targets!r}: {first_line(error)}") from error


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
