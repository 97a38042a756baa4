"""A published reranker (LamRA-Rank: adapters of peft's on a vision-language model) as a checkpoint of `gemkr train`.

From FACTS: LamRA-Rank trains r 128, alpha 256 on all linear modules of Qwen2-VL's language part; its answers are Yes and No, and
numbers. Unverified, since no published file was at hand: the names of the modules, as in `peft_folder`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gemkr.config.files import to_mapping
from gemkr.errors import CheckpointError
from gemkr.models.hf.adapters import AdapterConfig
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.vlm.network import load_vlm_writer
from gemkr.models.writers.config import WriterConfig
from gemkr.rerankers.training import KIND
from gemkr.training.checkpoints import peft_folder
from gemkr.training.checkpoints.imported import Imported
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.checkpoints.renaming import renamed

OWN = "llm.model."
"""Before the names of a writer's parameters, where peft has the whole model."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The part of a configuration that says which model a checkpoint is for."""

    model: WriterConfig


def import_reranker(file: str | Path, config: VlmConfig) -> Imported:
    """Read a folder of peft's for the rerankers yes_no and listwise over a vision-language model, whose folder must be there.

    Raises CheckpointError in one sentence for what does not fit.
    """
    config = replace(config, checkpoint=None)
    folder = Path(file).parent if Path(file).name == peft_folder.WEIGHTS else Path(file)
    state, theirs = peft_folder.read_adapters(folder)
    lora = config.lora
    ours = None if lora is None else AdapterConfig(r=lora.r, alpha=lora.alpha, dora=lora.dora)
    peft_folder.require_adapters(ours, theirs, file, section="model.lora")
    model = load_vlm_writer(config)
    targets = {name.removeprefix(OWN): p.shape for name, p in model.trainable_parameters().items()}
    found = peft_folder.sources(targets)
    weights, ignored = renamed(state, found, targets, peft_folder.NOTHING, file)
    origin = Origin(
        KIND,
        model.tokenizer.fingerprint(),
        hash_files([folder / peft_folder.CONFIG, folder / peft_folder.WEIGHTS]),
        {"model": to_mapping(config)},
        model.bases(),
    )
    return Imported(origin, {f"{OWN}{name}": value for name, value in weights.items()}, ignored, {})


def require_vlm(config: WriterConfig, file: str | Path) -> VlmConfig:
    """The settings of a VLM; CheckpointError for those of another kind of model."""
    if not isinstance(config, VlmConfig):
        raise CheckpointError(
            f"the adapters {file} are of a vision-language model; set model.kind: vlm and model.folder"
        )
    return config
