"""How families of vision-language models take pictures: the tensors of one, the tokens that stand for it, and several together.

The library's processors do the same where torchvision (Qwen) or num2words (SmolVLM) is installed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from gemkr.errors import ModelError

Tensors = dict[str, Tensor]
"""What a model is given of pictures, by name."""


class Family(ABC):
    """A family of models. `typed`: it is told which tokens are pictures. `grid`: pictures keep their shape, between two numbers of
    pixels. `frame`: what stands around a picture's tokens where no template of a chat puts it there."""

    options: ClassVar[dict[str, Any]] = {}
    typed = grid = False
    frame = "{picture}"

    @abstractmethod
    def expand(self, found: dict[str, Any], processor: Any, config: Any, token: str) -> str:
        """The tokens that stand for one picture, as text."""

    def show(self, processor: Any, config: Any, token: str, picture: Any) -> tuple[Tensors, str]:
        """The tensors of one picture and its tokens. Raises ValueError for one of a shape that the processor refuses."""
        found = dict(processor(images=[picture], return_tensors="np", **self.options))
        text = self.expand(found, processor, config, token)
        return {name: torch.as_tensor(found[name]) for name in found if name not in ("rows", "cols")}, text

    def join(self, pictures: Sequence[Tensors]) -> Tensors:
        """The tensors of several pictures, in order; none of none."""
        names = pictures[0] if pictures else ()
        return {name: torch.cat([picture[name] for picture in pictures]) for name in names}

    def tokens(self, config: Any, tokenizer: Any) -> list[str | None]:
        """The tokens that pictures are written with; None for one that the tokenizer does not know."""
        return [tokenizer.convert_ids_to_tokens(config.image_token_id)]


class Qwen(Family):
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL: a grid of patches, some of which make a token."""

    typed = grid = True
    frame = "<|vision_start|>{picture}<|vision_end|>"

    def expand(self, found: dict[str, Any], processor: Any, config: Any, token: str) -> str:
        return token * (int(found["image_grid_thw"][0].prod()) // processor.merge_size**2)


class Llava(Family):
    """LLaVA-1.5: one square."""

    frame = "{picture}\n"

    def expand(self, found: dict[str, Any], processor: Any, config: Any, token: str) -> str:
        height, width = found["pixel_values"].shape[-2:]
        patch = config.vision_config.patch_size
        return token * ((height // patch) * (width // patch) + _rest_of_square(config))


class LlavaNext(Family):
    """LLaVA-NeXT: the whole as a square, then squares of it laid together, without what fills them up, with a token at each row's
    end."""

    frame = "{picture}\n"

    def expand(self, found: dict[str, Any], processor: Any, config: Any, token: str) -> str:
        from transformers.image_processing_utils import select_best_resolution

        side = config.vision_config.image_size // config.vision_config.patch_size
        height, width = (int(n) for n in found["image_sizes"][0])
        best = select_best_resolution((height, width), config.image_grid_pinpoints)
        rows, columns = (side * (length // config.vision_config.image_size) for length in best)
        if width / height > columns / rows:
            rows -= (rows - int(round(height * (columns / width), 7))) // 2 * 2
        else:
            columns -= (columns - int(round(width * (rows / height), 7))) // 2 * 2
        rows, columns = self.fitted(rows, columns, side, config)
        return token * (side**2 + _rest_of_square(config) + rows * columns + rows)

    def fitted(self, rows: int, columns: int, side: int, config: Any) -> tuple[int, int]:
        """Of so many patches laid together, as many as the model keeps: all."""
        return rows, columns

    def join(self, pictures: Sequence[Tensors]) -> Tensors:
        """Squares are filled up with zeros, which the model leaves out."""
        if not pictures:
            return {}
        most = max(picture["pixel_values"].shape[1] for picture in pictures)
        rows = [
            torch.nn.functional.pad(p, (0,) * 7 + (most - p.shape[1],))
            for p in (picture["pixel_values"] for picture in pictures)
        ]
        return {
            "pixel_values": torch.cat(rows),
            "image_sizes": torch.cat([picture["image_sizes"] for picture in pictures]),
        }


class LlavaOneVision(LlavaNext):
    """LLaVA-OneVision: what is laid together is scaled down where it is of many squares (`anyres_max_9`: of more than 9)."""

    def fitted(self, rows: int, columns: int, side: int, config: Any) -> tuple[int, int]:
        most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(rows * columns / (most * side**2))
        return (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)


class Idefics3(Family):
    """Idefics3 and SmolVLM: squares row by row, each under its name, then the whole."""

    around, whole = "<fake_token_around_image>", "<global-img>"
    options: ClassVar[dict[str, Any]] = {"return_row_col_info": True}

    def expand(self, found: dict[str, Any], processor: Any, config: Any, token: str) -> str:
        vision = config.vision_config
        square = token * ((vision.image_size // vision.patch_size) ** 2 // config.scale_factor**2)
        rows, columns = int(found["rows"][0][0]), int(found["cols"][0][0])
        lines = (
            "".join(f"{self.around}<row_{row + 1}_col_{column + 1}>{square}" for column in range(columns))
            for row in range(rows)
        )
        parts = "".join(f"{line}\n" for line in lines)
        return f"{parts}{chr(10) if rows else ''}{self.around}{self.whole}{square}{self.around}"

    def join(self, pictures: Sequence[Tensors]) -> Tensors:
        """All squares as if they were of one text: the model takes them in order."""
        names = pictures[0] if pictures else ()
        return {name: torch.cat([picture[name] for picture in pictures], dim=1) for name in names}

    def tokens(self, config: Any, tokenizer: Any) -> list[str | None]:
        return [*super().tokens(config, tokenizer), self.around, self.whole]


def _rest_of_square(config: Any) -> int:
    """How many tokens a square has beside its patches: a tower's class token, unless that is left out."""
    first = config.vision_config.model_type.startswith("clip")
    return int(first) - (config.vision_feature_select_strategy == "default")


QWEN, IDEFICS = Qwen(), Idefics3()
FAMILIES: dict[str, Family] = {
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
    "llava": Llava(),
    "llava_next": LlavaNext(),
    "llava_onevision": LlavaOneVision(),
    "idefics3": IDEFICS,
    "smolvlm": IDEFICS,
}
"""`model_type` of a configuration -> how it takes pictures."""


def family_of(config: Any) -> Family:
    """ModelError for a configuration of an unknown family."""
    if config.model_type not in FAMILIES:
        raise ModelError(
            f"models of the type {config.model_type!r} cannot read pictures here; known are {', '.join(FAMILIES)}"
        )
    return FAMILIES[config.model_type]
