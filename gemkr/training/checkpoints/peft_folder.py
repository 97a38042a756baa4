"""Adapters of a vision-language model as peft saves them (VLM2Vec, LamRA): `adapter_config.json` and `adapter_model.safetensors`.

VLM2Vec trains r 16, alpha 64, DoRA, on modules that in Qwen2-VL are q, k, v, o and down (its gate_up_proj is Phi's). The same names
are found in CLIP's tower, so that its adapters of a LLaVA or Phi change that too: its LLaVA-NeXT is published merged (its issue 19), as
are LamRA-Ret and LamRA-Rank, whose adapters are of r 128, alpha 256 on all linear modules of the LLM.
Unverified, since no published file was at hand: their modules' names, taken to be those of transformers before 4.52
(`model.layers`, in LLaVA `language_model.model.layers`) or after it (`model.language_model.layers`); both are read. A model that is
published merged needs no import: it is an `encoder.folder`, or a `model.folder`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gemkr.errors import CheckpointError
from gemkr.models.hf.adapters import VISION, AdapterConfig
from gemkr.training.checkpoints.renaming import Source

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NOTHING = re.compile(r"(?!)")
"""Every tensor of an adapter is needed."""
MERGE = (
    "merge them with peft and give the merged model as the folder of the encoder or model, without adapters"
)
_ROOT = "base_model.model."
_OWN = re.compile(r"model\.(.+)\.(lora_[AB]|lora_magnitude_vector)\.default\.weight")
_PLAIN = {
    "use_rslora": False,
    "bias": "none",
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "fan_in_fan_out": False,
    "lora_bias": False,
    "layer_replication": None,
    "trainable_token_indices": None,
}
"""Settings of peft that ours does not have, with the value at which they change nothing."""
_BASE_CHANGED = ("pissa", "olora", "corda", "loftq")
"""First values of adapters for which peft changes the weights under them too."""


def read_adapters(folder: str | Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The tensors of a folder of peft's, and its settings; CheckpointError for a file that is missing or broken, a folder of a whole
    model, and adapters of a vision tower."""
    folder = Path(folder)
    if (folder / "config.json").is_file() and not (folder / CONFIG).exists():
        raise CheckpointError(
            f"{folder} holds a whole model and no adapters; name it as the folder of the encoder or model, without adapters and checkpoint"
        )
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except OSError as error:
        raise CheckpointError(
            f"the adapters {folder} cannot be read: {error.strerror or error}; give a folder with {CONFIG} and {WEIGHTS}"
        ) from error
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"the adapters {folder} cannot be read ({error}); download them again"
        ) from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder / CONFIG} holds no settings of peft; download it again")
    seeing = next((name for name in tensors if VISION.search(name)), None)
    if seeing is not None:
        raise CheckpointError(
            f"the adapters {folder} change the vision tower too (such as {seeing}), which none do here; {MERGE}"
        )
    return tensors, settings


def require_adapters(
    ours: AdapterConfig | None,
    theirs: Mapping[str, Any],
    where: str | Path,
    section: str = "encoder.adapters",
) -> None:
    """CheckpointError unless adapters of our settings, those of `section`, compute what theirs do."""
    if ours is None:
        raise CheckpointError(
            f"the checkpoint {where} holds adapters and the {section.partition('.')[0]} has none; set {section}"
        )
    if theirs.get("peft_type") != "LORA":
        raise CheckpointError(
            f"the adapters {where} are of the type {theirs.get('peft_type')!r}, and LORA is read; take others"
        )
    unlike = [name for name, value in _PLAIN.items() if theirs.get(name) and theirs[name] != value]
    if str(theirs.get("init_lora_weights")).lower().startswith(_BASE_CHANGED):
        unlike.append("init_lora_weights")
    if unlike:
        name = unlike[0]
        raise CheckpointError(
            f"the adapters {where} have {name}: {theirs[name]!r}, which encoders do not; {MERGE}"
        )
    for own, name in (("r", "r"), ("alpha", "lora_alpha"), ("dora", "use_dora")):
        if (needed := theirs.get(name, False)) != getattr(ours, own):
            part, _, key = section.partition(".")
            raise CheckpointError(
                f"the adapters {where} have {name}: {needed!r}, the {part} {key}.{own}: {getattr(ours, own)!r}; set "
                f"{section}.{own} to theirs"
            )


def sources(names: Iterable[str]) -> dict[str, Source]:
    """For each tensor of adapters, by our name, what it may be called in theirs."""
    return {name: Source(_their_names(name)) for name in names}


def _their_names(own: str) -> tuple[str, ...]:
    module, kind = _OWN.fullmatch(own).groups()
    modules = [f"model.{module}"]
    if module.startswith("language_model."):
        inner = module.removeprefix("language_model.")
        modules += [f"model.{inner}", f"language_model.model.{inner}"]
    ends = [".weight", ".default.weight"]
    if kind == "lora_magnitude_vector":
        ends = ["", *ends, ".default"]
    return tuple(f"{_ROOT}{module}.{kind}{end}" for module in modules for end in ends)
