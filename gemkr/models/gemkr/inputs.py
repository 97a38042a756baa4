"""From a query to everything the model reads of it.

`InputBuilder` is the one place that decides what a model is shown, for training, evaluation and serving alike. It
knows pictures and region features by image id; it knows no weights, so that data loader workers can carry it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gemkr.errors import ModelError
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.projector import reading_order
from gemkr.models.gemkr.prompt import Sample, Template, VisualSlot, build_sample
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.models.hf.text_encoder import TextReader
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query
from gemkr.vision.protocols import Pictures, Regions


@dataclass(frozen=True, slots=True)
class Example:
    """One query ready for the model; `regions` is None when its picture is not seen.

    `pixels` float32[3, H, W], None when no whole-picture token is shown; `text` int64[E], what the text encoder reads,
    None without one. A clue to learn stands in the sample, or `clues` follow a bare prompt side by side.
    """

    sample: Sample
    pixels: torch.Tensor | None
    regions: RegionInput | None
    text: np.ndarray | None = None
    clues: tuple[ClueTarget, ...] = ()

    @property
    def text_length(self) -> int:
        """Tokens of the prompt that count as `max_prompt_tokens`."""
        return self.sample.prompt_length - len(self.sample.read)


@dataclass(frozen=True, slots=True)
class RegionInput:
    """`features` float16[R, width] and `boxes` float32[R, 4] (xyxy in shares of the picture) in the store's order.

    Rows at or beyond `order`'s length are padding; `order` int64[count] lists the real ones in reading order.
    """

    features: np.ndarray
    boxes: np.ndarray
    order: np.ndarray


class InputBuilder:
    """Builds examples; calling it with a query alone builds a prompt.

    Without `images` no picture is seen; without `regions` pictures are seen without regions; a model without tower
    reads the text only. A picture or its features that should be there and are not raise VisionError.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        *,
        preprocess: Callable[[Any], torch.Tensor] | None = None,
        width: int = 0,
        encoder: str | None = None,
        images: Pictures | None = None,
        regions: Regions | None = None,
        reader: TextReader | None = None,
        max_prompt_tokens: int | None = None,
        hide_regions: float = 0.0,
    ) -> None:
        """`preprocess`, `width` and `encoder` (fingerprint) are the tower's, `reader` the text encoder's; see
        `GeMKR.input_builder`.

        `hide_regions` withholds the regions of this share of queries (always the same ones, by their ids), so that
        a model also learns from whole pictures alone. For training only.

        Raises ModelError when the region features come from another tower or have another width.
        """
        self.config = config
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.width = width
        self.images = images
        self.regions = regions
        self.reader = reader
        self.max_prompt_tokens = max_prompt_tokens
        self.hide_regions = hide_regions
        self.template = Template.load(config.prompt.template) if config.prompt.template else None
        tokens = config.visual_tokens
        self.whole = int(tokens.cls) + (tokens.prefix_rows if config.prefix.blocks else 0)
        if (
            regions is not None
            and preprocess is not None
            and (regions.width, regions.encoder) != (width, encoder)
        ):
            raise ModelError(
                f"the region features of {regions.path} have width {regions.width} and come from the tower "
                f"{regions.encoder[:12]}, the model's tower has width {width} and is {str(encoder)[:12]}; encode the "
                "regions with the model's tower"
            )

    def under(self, template: Template, max_prompt_tokens: int | None) -> InputBuilder:
        """The same builder under another template and limit."""
        other = copy(self)
        other.template, other.max_prompt_tokens = template, max_prompt_tokens
        return other

    @property
    def sees_pictures(self) -> bool:
        return self.preprocess is not None and self.images is not None

    def __call__(
        self,
        query: Query,
        *,
        clue: Sequence[int] | None = None,
        form: str | None = None,
        passage: str | None = None,
    ) -> Example:
        """The example of a query; `clue` are token ids to be learned, `form` the requested clue form, `passage` a text that a
        reader is shown beside the query."""
        pixels, regions, slot = None, None, None
        if self.sees_pictures and query.image is not None:
            regions = self._regions(query.image, hidden=_draw(query.query_id) < self.hide_regions)
            shown = len(regions.order) if self.config.visual_tokens.regions else 0
            slot = VisualSlot(self.whole, shown)
            if self.whole:
                pixels = self.preprocess(self.images.open(query.image))
        text = None if self.reader is None else self.reader(query)
        sample = build_sample(
            query,
            self.tokenizer,
            image=slot,
            clue=clue,
            form=form,
            caption=self.config.prompt.caption,
            detections=self.config.prompt.detections,
            template=self.template,
            max_prompt_tokens=self.max_prompt_tokens,
            read=0 if text is None else len(text),
            passage=passage,
        )
        return Example(sample, pixels, regions, text)

    def _regions(self, image: str, *, hidden: bool) -> RegionInput:
        rows = self.config.prefix.rows
        features = np.zeros((rows, self.width), np.float16)
        boxes = np.zeros((rows, 4), np.float32)
        if self.regions is None or hidden:
            return RegionInput(features, boxes, np.zeros(0, np.int64))
        found = self.regions.get(image)
        count = min(found.count, rows)
        features[:count] = found.features[:count]
        width, height = found.size
        boxes[:count] = found.boxes[:count] / np.array([width, height, width, height], np.float32)
        return RegionInput(features, boxes, reading_order(boxes[:count]))


def _draw(query_id: str) -> float:
    """A number in [0, 1) that belongs to a query."""
    return zlib.crc32(query_id.encode()) / 2**32
