"""A published checkpoint of an encoder (UniIR's, PreFLMR's, or adapters of a vision-language model) as one of `gemkr train`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor

from gemkr.config.files import to_mapping
from gemkr.config.section import Section
from gemkr.errors import CheckpointError
from gemkr.models.encoders import ALL_ENCODERS
from gemkr.models.weights import trained_parameters
from gemkr.training.checkpoints import flmr, peft_folder, uniir
from gemkr.training.checkpoints.encoder import KIND, NETWORK, bases_of
from gemkr.training.checkpoints.imported import Imported
from gemkr.training.checkpoints.origin import Origin, hash_files
from gemkr.training.checkpoints.published import read_published
from gemkr.training.checkpoints.renaming import renamed
from gemkr.training.contrastive.run import Material, vocabulary_hash


@dataclass(frozen=True, kw_only=True)
class EncoderChoice:
    """The part of a configuration that says which encoder a checkpoint is for."""

    encoder: Annotated[Section, ALL_ENCODERS]


def import_encoder(file: str | Path, choice: EncoderChoice) -> Imported:
    """Read a published checkpoint for an encoder: a torch file of UniIR's, peft's folder where the encoder is a `vlm`, a folder of
    safetensors where it is a `preflmr`.

    Builds the encoder, whose folder must be there. Raises CheckpointError in one sentence for what does not fit.
    """
    kind, settings = choice.encoder.kind, choice.encoder.config
    if hasattr(settings, "checkpoint"):
        settings = replace(settings, checkpoint=None)
        choice = replace(choice, encoder=replace(choice.encoder, config=settings))
    state: dict[str, Tensor]
    beside: dict[str, Any] = {}
    if kind == "vlm":
        folder = Path(file).parent if Path(file).name == peft_folder.WEIGHTS else Path(file)
        state, theirs = peft_folder.read_adapters(folder)
        peft_folder.require_adapters(settings.adapters, theirs, file)
        files = [folder / peft_folder.CONFIG, folder / peft_folder.WEIGHTS]
        find, unused = peft_folder.sources, peft_folder.NOTHING
    elif kind == "preflmr":
        whole, theirs = flmr.read_flmr(file)
        flmr.require_settings(settings, theirs, file)
        state = flmr.without_copies(whole, separate=settings.separate, where=file)
        files = sorted(Path(file).glob("*.safetensors")) if Path(file).is_dir() else [Path(file)]
        find, unused = partial(flmr.sources, separate=settings.separate), flmr.UNUSED
    else:
        find = uniir.sources_of(kind)
        if settings.adapters is not None:
            raise CheckpointError(
                f"the checkpoint {file} holds whole models and the encoder has adapters; leave encoder.adapters out"
            )
        state, beside = read_published(file)
        files, unused = [Path(file)], uniir.UNUSED[kind]
    encoder = choice.encoder.build(Material(None))
    targets = trained_parameters(encoder.network)
    shapes = {name: parameter.shape for name, parameter in targets.items()}
    weights, ignored = renamed(state, find(targets), shapes, unused, file)
    origin = Origin(
        KIND,
        vocabulary_hash(encoder.reader.tokenizer),
        hash_files(files),
        to_mapping(choice),
        bases_of(encoder.network),
    )
    return Imported(origin, {f"{NETWORK}{name}": value for name, value in weights.items()}, ignored, beside)
