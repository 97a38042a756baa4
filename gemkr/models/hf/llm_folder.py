"""A causal language model from a local folder or GGUF file: frozen, with LoRA in it, or to be trained as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gemkr.errors import ModelError, first_line
from gemkr.models.hf.config import LoraConfig
from gemkr.models.hf.folder import load_folder
from gemkr.models.hf.gguf_llama import read_gguf_llama
from gemkr.models.hf.llm import LLM
from gemkr.models.precision import dtype_of
from gemkr.text.gguf_file import is_gguf


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
