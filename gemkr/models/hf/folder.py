"""Weights from a local Hugging Face folder: all of them, or one sentence of what is wrong.

Knows neither LLMs nor encoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from gemkr.errors import ModelError, first_line

UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, SafetensorError, UnpicklingError,
)  # fmt: skip
"""What transformers raises for a folder of unknown, absent or damaged files."""


@contextmanager
def without_bars() -> Iterator[None]:
    """No bar of transformers, which draws one for every model that it reads or writes, and no report of weights that do not fit
    beside our sentence."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def load_folder(
    auto: Any, folder: str, kind: str, dtype: torch.dtype, *, spare: str | None = None
) -> nn.Module:
    """Read a local folder (never the network) by a class of transformers, every tensor of the model from its files.

    A tied output may be absent there, and so may what stands under the name `spare`; more than the model needs is passed
    over. Raises ModelError, which calls it the `kind` folder, when it cannot be read, lacks a tensor or holds one of
    another shape.
    """
    try:
        with without_bars():
            model, info = auto.from_pretrained(
                folder,
                dtype=dtype,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except UNREADABLE as error:
        raise ModelError(f"the {kind} folder {folder} cannot be loaded: {first_line(error)}") from error
    wrong = dict.fromkeys(info["missing_keys"], "is missing")
    for name, held, needed in info["mismatched_keys"]:
        wrong[name] = f"has shape {list(held)} instead of {list(needed)}"
    names = sorted(name for name in wrong if name.split(".")[0] != spare)
    if names:
        rest = f", and {len(names) - 1} more are missing or of another shape" if names[1:] else ""
        size = getattr(model.config, "vocab_size", "unknown")
        raise ModelError(
            f"the weights in the {kind} folder {folder} are not those of the model that its config.json describes "
            f"({model.config.model_type}, vocabulary {size}): {names[0]} {wrong[names[0]]}{rest}; copy or download the whole folder "
            "of one model again"
        )
    return model
