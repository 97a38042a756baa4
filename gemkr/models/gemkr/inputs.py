"""From a query to everything the model reads of it, and from many of those to one batch.

`InputBuilder` is the one place that decides what a model is shown, for training, evaluation and serving alike. It
knows pictures and region features by image id; it knows no weights, so that data loader workers can carry it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from gemkr.errors import ModelError
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.gemkr.projector import reading_order
from gemkr.models.gemkr.prompt import IGNORED_LABEL, Sample, Template, VisualSlot, build_sample
from gemkr.models.hf.text_encoder import TextReader
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore


@dataclass(frozen=True, slots=True)
class Example:
    """One query ready for the model; `regions` is None when its picture is not seen.

    `pixels` float32[3, H, W], None when no whole-picture token is shown; `text` int64[E], what the text encoder reads,
    None without one.
    """

    sample: Sample
    pixels: torch.Tensor | None
    regions: RegionInput | None
    text: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class RegionInput:
    """`features` float16[R, width] and `boxes` float32[R, 4] (xyxy in shares of the picture) in the store's order.

    Rows at or beyond `order`'s length are padding; `order` int64[count] lists the real ones in reading order.
    """

    features: np.ndarray
    boxes: np.ndarray
    order: np.ndarray


@dataclass(slots=True)
class Batch:
    """B examples, left-padded to T tokens; P of them have a picture, V visual tokens stand in the slots.

    tokens, mask, labels int64[B, T]; pixels float32[P, 3, H, W] or None;
    features float16[P, R, width], counts int64[P], boxes float32[P, R, 4]; `region_order` int64[P, R], real regions
    first, in reading order; `slots` int64[V, 4]: batch row, position, picture (0..P-1), and visual token of the
    picture: w for whole-picture token w, whole + i for the i-th region in reading order. The text encoder reads
    `text` int64[B, E], right-padded, `text_mask` int64[B, E]; `text_slots` int64[N, 3]: batch row, position, state.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor
    pixels: torch.Tensor | None
    features: torch.Tensor | None
    counts: torch.Tensor
    boxes: torch.Tensor | None
    region_order: torch.Tensor | None
    slots: torch.Tensor
    text: torch.Tensor | None = None
    text_mask: torch.Tensor | None = None
    text_slots: torch.Tensor | None = None

    def to(self, device: Any, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: None if value is None else change(value) for name, value in values.items()})


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
        images: PictureFolder | None = None,
        regions: RegionStore | None = None,
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

    @property
    def sees_pictures(self) -> bool:
        return self.preprocess is not None and self.images is not None

    def __call__(
        self, query: Query, *, clue: Sequence[int] | None = None, form: str | None = None
    ) -> Example:
        """The example of a query; `clue` are token ids to be learned, `form` the clue form asked for."""
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


def collate(examples: Sequence[Example], pad_id: int = 0) -> Batch:
    """One batch of examples, in their order; the padding is masked whatever `pad_id` is."""
    length = max(len(e.sample.tokens) for e in examples)
    tokens = np.full((len(examples), length), pad_id, np.int64)
    mask = np.zeros((len(examples), length), np.int64)
    labels = np.full((len(examples), length), IGNORED_LABEL, np.int64)
    slots: list[np.ndarray] = []
    seen = [i for i, e in enumerate(examples) if e.regions is not None]
    for i, example in enumerate(examples):
        sample = example.sample
        start = length - len(sample.tokens)
        tokens[i, start:] = sample.tokens
        mask[i, start:] = 1
        labels[i, start:] = sample.labels
        if example.regions is not None:
            n = len(sample.visual)
            picture = seen.index(i)
            columns = (np.full(n, i), sample.visual + start, np.full(n, picture), np.arange(n))
            slots.append(np.stack(columns, axis=1))
    pictures = [examples[i].regions for i in seen]
    return Batch(
        tokens=torch.from_numpy(tokens),
        mask=torch.from_numpy(mask),
        labels=torch.from_numpy(labels),
        pixels=_stack([examples[i].pixels for i in seen]),
        features=_stack([torch.from_numpy(p.features) for p in pictures]),
        counts=torch.tensor([len(p.order) for p in pictures], dtype=torch.int64),
        boxes=_stack([torch.from_numpy(p.boxes) for p in pictures]),
        region_order=_stack([torch.from_numpy(_all_rows(p)) for p in pictures]),
        slots=torch.from_numpy(np.concatenate(slots) if slots else np.zeros((0, 4), np.int64)),
        **_read_text(examples, length),
    )


def _read_text(examples: Sequence[Example], length: int) -> dict[str, torch.Tensor]:
    """The fields of a batch of `length` tokens that a text encoder reads and fills; none without one."""
    if examples[0].text is None:
        return {}
    shape = len(examples), max(len(e.text) for e in examples)
    text, mask, slots = np.zeros(shape, np.int64), np.zeros(shape, np.int64), []
    for i, example in enumerate(examples):
        n = len(example.text)
        text[i, :n], mask[i, :n] = example.text, 1
        positions = example.sample.read + length - len(example.sample.tokens)
        slots.append(np.stack([np.full(n, i), positions, np.arange(n)], axis=1))
    arrays = {"text": text, "text_mask": mask, "text_slots": np.concatenate(slots)}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _all_rows(regions: RegionInput) -> np.ndarray:
    """int64[R]: the real regions in reading order, then the padding rows."""
    return np.concatenate([regions.order, np.arange(len(regions.order), len(regions.features))])


def _stack(tensors: list[torch.Tensor | None]) -> torch.Tensor | None:
    return torch.stack(tensors) if tensors and tensors[0] is not None else None
