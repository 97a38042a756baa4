"""Adapters of a vision-language model merged into its weights: a folder of its own, from which a next stage of training starts.

LamRA-Ret learns in two stages, texts first and then pictures, and its second stage adapts the merged model of the first.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torch import nn

from gemkr.config.section import Section
from gemkr.errors import CheckpointError, ConfigError
from gemkr.files import require_writable_folder
from gemkr.training.contrastive.run import Material

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*", "*.gguf", "*.pth", "*.pt")
"""What of the folder that was adapted is not copied."""


def merge_encoder(section: Section, output: str | Path) -> int:
    """Write the model of an encoder `vlm` with its adapters merged in, and whatever else stands beside it in its folder; returns
    how many modules were adapted. `output` is whole or not there.

    ConfigError for an encoder of another kind, or without adapters or checkpoint; CheckpointError where the folder is taken.
    """
    config, output = section.config, Path(output)
    if section.kind != "vlm" or config.adapters is None or config.checkpoint is None:
        raise ConfigError(
            "only the adapters of an encoder of the kind vlm are merged; give encoder.kind vlm, adapters and the checkpoint that "
            "they are in"
        )
    if output.exists():
        raise CheckpointError(f"the output {output} exists already; choose another with -o, or delete it")
    model = section.build(Material(None)).network.model
    merged = merge_adapters(model)
    part = output.with_name(f".{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    require_writable_folder(part.parent)
    ignored = shutil.ignore_patterns(*WEIGHT_FILES, ".*")
    try:
        shutil.copytree(config.folder, part, ignore=ignored)
        model.save_pretrained(part)
        part.rename(output)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"the merged model {output} cannot be written ({error.strerror}); choose another place with -o, or free some space"
        ) from error
    return merged


def merge_adapters(network: nn.Module) -> int:
    """Put every adapted module's plain form, with its adapters' weights added, in its place; returns how many there were."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: list[tuple[str, Any]] = [
        (name, module) for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)
    ]
    for name, module in found:
        module.merge(safe_merge=True)
        owner, _, own = name.rpartition(".")
        setattr(network.get_submodule(owner), own, module.get_base_layer())
    return len(found)
