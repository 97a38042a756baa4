"""The parts of a vision-language model in a local folder, for embedders and writers alike: tokenizer, image processor, configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemkr.errors import ModelError, VisionError, first_line
from gemkr.models.hf.folder import UNREADABLE
from gemkr.models.hf.vlm_families import Family, Tensors, family_of


@dataclass(frozen=True)
class VlmParts:
    """What turns pictures and texts into the model's input: no weights. Pictures are prepared by PIL, so that nothing of the
    library is needed that would want torchvision."""

    folder: str
    tokenizer: Any
    processor: Any
    config: Any
    family: Family

    @property
    def image_token(self) -> str:
        return self.tokenizer.convert_ids_to_tokens(self.config.image_token_id)

    @property
    def context(self) -> int:
        """How many tokens the model reads at most, a picture's among them."""
        return self.config.get_text_config().max_position_embeddings

    def show(self, picture: Any, called: str) -> tuple[Tensors, str]:
        """The tensors of a picture (PIL) and the tokens that stand for it, as text; VisionError for one that the processor refuses."""
        try:
            return self.family.show(self.processor, self.config, self.image_token, picture)
        except ValueError as error:
            width, height = picture.size
            raise VisionError(
                f"{called}, {width}x{height} pixels, is not one that the model's image processor takes ({first_line(error)}); give "
                "another picture"
            ) from error

    def chat_template(self) -> str | None:
        """The jinja template of a conversation: the tokenizer's own, or that of the older file chat_template.json."""
        template = self.tokenizer.chat_template
        file = Path(self.folder) / "chat_template.json"
        if template is None and file.is_file():
            try:
                template = json.loads(file.read_text(encoding="utf-8"))["chat_template"]
            except (ValueError, KeyError, TypeError) as error:
                raise ModelError(
                    f"{file} holds no chat template ({first_line(error)}); copy it again"
                ) from error
        return template if isinstance(template, str) else None

    def limit_pixels(self, least: int | None, most: int | None) -> None:
        """Resize pictures to between `least` and `most` pixels; ModelError for a model that takes one size only."""
        given = {"shortest_edge": least, "longest_edge": most}
        if not any(given.values()):
            return
        if not self.family.grid:
            raise ModelError(
                "min_pixels and max_pixels are for models that take pictures of any size; leave them out"
            )
        kept = {name: self.processor.size[name] for name in given}
        self.processor.size = kept | {name: limit for name, limit in given.items() if limit is not None}


def load_parts(folder: str) -> VlmParts:
    """The parts of a folder (never the network); ModelError names the one that is missing or cannot be read, an image token that
    the tokenizer lacks, and a model of an unknown family."""
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    if not Path(folder).is_dir():
        raise ModelError(f"the VLM folder {folder} is not there; give a local Hugging Face folder")
    config = _read(AutoConfig, folder, "configuration (config.json)")
    family = family_of(config)
    tokenizer = _read(AutoTokenizer, folder, "tokenizer (tokenizer.json)")
    processor = _read(AutoImageProcessor, folder, "image processor (preprocessor_config.json)", backend="pil")
    for token in family.tokens(config, tokenizer):
        if token is None or tokenizer.convert_tokens_to_ids(token) in (None, tokenizer.unk_token_id):
            raise ModelError(
                f"the tokenizer in the VLM folder {folder} lacks "
                f"{f'the picture token {token}' if token else f'the picture token of config.json, {config.image_token_id}'}; "
                "copy or download the whole folder of one model again"
            )
    return VlmParts(folder, tokenizer, processor, config, family)


def _read(auto: Any, folder: str, what: str, **settings: Any) -> Any:
    try:
        return auto.from_pretrained(folder, local_files_only=True, **settings)
    except (*UNREADABLE, ImportError, AttributeError) as error:
        reason = first_line(error).partition(". ")[0]  # the library goes on about its hub
        raise ModelError(
            f"the VLM folder {folder} lacks its {what}, or it cannot be read ({reason}); copy or download the whole folder again"
        ) from error
