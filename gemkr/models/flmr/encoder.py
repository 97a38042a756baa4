"""The encoder `preflmr`: its settings, its towers from local folders, and which of its weights learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gemkr.config.paths import FilePath
from gemkr.config.ranges import Natural, Positive
from gemkr.errors import ConfigError, ModelError
from gemkr.models.flmr.network import PreFLMR
from gemkr.models.flmr.reader import FLMRReader, Reading
from gemkr.models.hf.folder import load_folder
from gemkr.models.token_embedder import TokenEmbedder
from gemkr.models.uniir.reader import load_image_reading, load_text_reading
from gemkr.models.weights import new_weights
from gemkr.types import Document, Query, QueryVector

LEARNS = {
    "text": ("query_text", "query_linear", "document_text", "document_linear"),
    "mapping": ("image_mapping", "patch_input", "patch_layers", "patch_output"),
}
"""Stages of training -> the parts that learn; `all` is both."""


@dataclass(frozen=True)
class Stage:
    """An earlier stage of training: what it `learns`, and the checkpoint that it left."""

    learns: str
    checkpoint: FilePath


class PreFLMREncoder(TokenEmbedder):
    """A `TokenEncoder` over local folders of a BERT or XLM-R and of a CLIP, and mapping layers of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Folders of the `text` tower (BERT, XLM-R) and of a CLIP for `vision` (null: texts only). `separate`: documents have a text
        tower of their own. `checkpoint` of `gemkr train`, over those of earlier `stages`; of a stage, `text`, `mapping` or `all` of the
        rest `learns`, the vision tower with `train_vision` alone. Vectors of `width` numbers; a picture gives `image_tokens` of them,
        each of up to `regions` crops as many again (boxes from the configuration's region store, or its detector's at question time), and its patches pass
        `mapping_layers`, which see `seen_tokens` states of the question. `mask_padding`: queries are filled up with [MASK] tokens, which
        are scored; without `score_question` the text beside a picture is read only (the `mapping` stage); `black_picture`: a query without a picture is shown a black one, as in the published evaluations. Matrix
        products of `encode_*` have a `precision` (fp32, bf16, fp16)."""

        text: FilePath
        vision: FilePath | None = None
        checkpoint: FilePath | None = None
        stages: tuple[Stage, ...] = ()
        learns: str = "all"
        train_vision: bool = False
        separate: bool = False
        width: Positive = 128
        query_tokens: Positive = 32
        document_tokens: Positive = 512
        image_tokens: Positive = 32
        mapping_layers: Natural = 1
        seen_tokens: Positive = 32
        regions: Natural = 0
        query_marker: str = "[unused0]"
        document_marker: str = "[unused1]"
        mask_padding: bool = True
        score_question: bool = True
        black_picture: bool = False
        batch_size: Positive = 32
        precision: str = "fp32"

        def __post_init__(self) -> None:
            for learns in (self.learns, *(stage.learns for stage in self.stages)):
                if learns not in (*LEARNS, "all"):
                    raise ConfigError(f"learns {learns!r} is unknown; use {', '.join(LEARNS)} or all")
            if self.black_picture and self.vision is None:
                raise ConfigError(
                    "black_picture is shown to a vision tower and there is none; set vision to a folder of CLIP, or black_picture: false"
                )
            if min(self.query_tokens, self.document_tokens) < 4:
                raise ConfigError(
                    f"query_tokens {self.query_tokens} and document_tokens {self.document_tokens} must be 4 or more: three are markers"
                )

        @property
        def sees_regions(self) -> bool:
            return self.vision is not None and self.regions > 0

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> PreFLMREncoder:
        """Loads the folders, never the network; ModelError where that fails or they do not fit the settings."""
        tokenizer = load_text_reading(config.text, "text")
        processor = None if config.vision is None else load_image_reading(config.vision, "vision")
        text, vision = _load_text(config.text), None if config.vision is None else _load_vision(config.vision)
        _require_room(text, config)
        with new_weights():
            network = PreFLMR(
                text, _load_text(config.text) if config.separate else None, vision, width=config.width,
                image_tokens=config.image_tokens, mapping_layers=config.mapping_layers, seen_tokens=config.seen_tokens,
            )  # fmt: skip
        for stage in config.stages:
            let_learn(network, stage.learns, vision=config.train_vision)
            sources.put_in(network, stage.checkpoint)
        let_learn(network, config.learns, vision=config.train_vision)
        if config.checkpoint is not None:
            sources.put_in(network, config.checkpoint)
        reading = Reading(
            query_tokens=config.query_tokens, document_tokens=config.document_tokens, query_marker=config.query_marker,
            document_marker=config.document_marker, mask_padding=config.mask_padding, score_question=config.score_question, regions=config.regions,
            black_picture=config.black_picture,
        )  # fmt: skip
        reader = FLMRReader(
            tokenizer, processor, sources.pictures, getattr(sources, "regions", None), reading
        )
        facts = {
            "document_tokens": config.document_tokens,
            "document_marker": config.document_marker,
            "image_tokens": config.image_tokens,
        }
        return cls(network, reader, batch_size=config.batch_size, facts=facts, precision=config.precision)

    def describe_query(self, query: Query) -> list[QueryVector]:
        """What each vector of `encode_queries([query])` stands for, in order."""
        found, network = self.reader.described_tokens(query), self.network
        if query.image is None:
            black = network.image_tokens + network.patches if self.reader.reading.black_picture else 0
            return found + [QueryVector("black picture")] * black
        whole, regions = self.reader.described_boxes(query)
        found += [QueryVector("picture", (0.0, 0.0, 1.0, 1.0))] * network.image_tokens
        side = round(network.patches**0.5)
        left, top, right, bottom = whole
        across, down = (right - left) / max(side, 1), (bottom - top) / max(side, 1)
        for row in range(side):
            for column in range(side):
                x, y = left + column * across, top + row * down
                found.append(QueryVector("patch", (x, y, x + across, y + down), patch=True))
        for number, box in enumerate(regions, 1):
            found += [QueryVector(f"region {number}", box)] * network.image_tokens
        return found

    def describe_document(self, document: Document) -> np.ndarray:
        """int64[m, 2]: the characters of `document.contents` that each of its vectors stands for; none (0, 0) for markers and pictures."""
        ranges = self.reader.document_ranges(document)
        extra = 0 if document.image is None else self.network.image_tokens
        return np.concatenate([ranges, np.zeros((extra, 2), np.int64)])

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        """The folders and checkpoints."""
        stages = {f"encoder.stage {i}": stage.checkpoint for i, stage in enumerate(config.stages)}
        folders = {"encoder.text": config.text, "encoder.vision": config.vision}
        return folders | stages | {"encoder.checkpoint": config.checkpoint}


def let_learn(network: PreFLMR, learns: str, *, vision: bool) -> None:
    """Let the parts of a stage learn, and no other; the vision tower with `vision`."""
    parts = [name for stage, names in LEARNS.items() if learns in (stage, "all") for name in names]
    parts += ["vision"] if vision else []
    for name, parameter in network.named_parameters():
        unused = name.startswith("vision.") and "post_layernorm" in name
        parameter.requires_grad_(name.split(".")[0] in parts and not unused)


def _load_text(folder: str) -> nn.Module:
    from transformers import AutoModel

    text = load_folder(AutoModel, folder, "text", torch.float32, spare="pooler")
    if text.config.model_type not in ("bert", "xlm-roberta"):
        raise ModelError(
            f"the text folder {folder} holds a {text.config.model_type!r} model; late interaction reads with a BERT or XLM-R"
        )
    text.pooler = None  # nothing reads it
    return text


def _load_vision(folder: str) -> nn.Module:
    from transformers import CLIPVisionModel

    return load_folder(CLIPVisionModel, folder, "vision", torch.float32)


def _require_room(text: nn.Module, config: Any) -> None:
    """ModelError where texts are to be longer than the tower has positions for."""
    config_of = text.config
    room = config_of.max_position_embeddings
    room -= config_of.pad_token_id + 1 if config_of.model_type == "xlm-roberta" else 0
    for name in ("query_tokens", "document_tokens"):
        if getattr(config, name) > room:
            raise ModelError(
                f"{name} is {getattr(config, name)} and the text folder {config.text} has positions for {room}; lower it"
            )
