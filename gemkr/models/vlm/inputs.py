"""From a query to what a vision-language model reads of it: the tokens of its prompt, and its pictures as tensors.

The one place that decides it, in training, evaluation and at question time; it carries no weights, so that data loader workers
can have it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.errors import ModelError, VisionError
from gemkr.models.gemkr.fields import PICTURE, Fields, fit, shown_fields
from gemkr.models.gemkr.projector import reading_order
from gemkr.models.gemkr.prompt import Sample, Template
from gemkr.models.gemkr.rows import ClueTarget
from gemkr.models.hf.vlm_families import Tensors
from gemkr.models.hf.vlm_folder import VlmParts
from gemkr.models.vlm.chat import Frame
from gemkr.models.vlm.config import VlmConfig
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Query
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.crops import crop_boxes
from gemkr.vision.protocols import Pictures, Regions

TEMPLATE = "vlm"
"""The packaged template of a configuration that names none."""
ROOM = 32
"""Tokens of the context that stay free for a clue."""


@dataclass(frozen=True, slots=True)
class VlmExample:
    """One query ready for the model: `pictures` are its tensors, one entry for each picture in order. A clue to learn stands in the
    sample, or `clues` follow a bare prompt side by side."""

    sample: Sample
    pictures: tuple[Tensors, ...] = ()
    clues: tuple[ClueTarget, ...] = ()

    @property
    def text_length(self) -> int:
        """Tokens of the prompt that count as `max_prompt_tokens`."""
        return self.sample.prompt_length - len(self.sample.visual)


class VlmInputs:
    """Builds examples; calling it with a query alone builds a prompt. Without `images` no picture is seen."""

    def __init__(
        self,
        config: VlmConfig,
        parts: VlmParts,
        tokenizer: Tokenizer,
        *,
        images: Pictures | None = None,
        regions: Regions | None = None,
        max_prompt_tokens: int | None = None,
        hide_regions: float = 0.0,
    ) -> None:
        """`hide_regions` withholds the crops of this share of queries, always the same ones. ModelError for a chat template without
        a place for pictures, and for crops without regions."""
        if config.crops and images is not None and regions is None:
            raise ModelError(
                f"model.crops is {config.crops} and no store of regions is known to cut them by; set regions (at question time, a detector), or "
                "model.crops: 0"
            )
        self.config, self.parts, self.tokenizer = config, parts, tokenizer
        self.images, self.regions = images, regions
        self.max_prompt_tokens, self.hide_regions = max_prompt_tokens, hide_regions
        self.frame = Frame(parts, chat=config.chat)
        self.template = Template.load(config.prompt.template or TEMPLATE)
        self._special = tuple(token for token in parts.tokenizer.get_added_vocab() if token.strip())

    def under(self, template: Template, max_prompt_tokens: int | None) -> VlmInputs:
        """The same builder under another template and limit."""
        other = copy(self)
        other.template, other.max_prompt_tokens = template, max_prompt_tokens
        return other

    @property
    def sees_pictures(self) -> bool:
        return self.images is not None

    def __call__(
        self,
        query: Query,
        *,
        clue: Sequence[int] | None = None,
        form: str | None = None,
        passage: str | None = None,
        passage_images: Sequence[str] = (),
    ) -> VlmExample:
        """The example of a query; `clue` are token ids to be learned, `form` the requested clue form, `passage` a text that a
        reader is shown beside the query, with the pictures `passage_images` where `PICTURE` stands in it.

        Of the prompt's tokens, those of pictures do not count as `max_prompt_tokens`. Raises VisionError for a picture that the
        processor refuses, or that takes more tokens than the model can read.
        """
        shown = list(self._shown(query)) if self.sees_pictures and query.image is not None else []
        called = f"the picture {query.image!r} of the query {query.query_id!r}"
        pictures = [self.parts.show(picture, called) for picture in shown]
        inside = [self.parts.show(self.images.open(name), f"the picture {name!r}") for name in passage_images]
        fields = shown_fields(
            query,
            form=form,
            caption=self.config.prompt.caption,
            detections=self.config.prompt.detections,
            passage=passage,
            picture=bool(pictures),
        )
        image = self.parts.config.image_token_id
        keep = {"passage"} if inside else ()
        fields = {
            name: self._plain(text if name in keep else text.replace(PICTURE, " "))
            for name, text in fields.items()
        }
        prompt = fit(
            fields,
            lambda fields: self._encode(fields, [text for _, text in pictures], [text for _, text in inside]),
            lambda tokens: len(tokens) - int((tokens == image).sum()),
            self.max_prompt_tokens,
            query.query_id,
            picture=bool(pictures),
        )
        seen = np.flatnonzero(prompt == image)
        self._require_room(len(prompt), len(seen), called, query)
        behind = () if clue is None else (*(int(token) for token in clue), self.tokenizer.eos_ids[0])
        tokens = np.concatenate([prompt, np.array(behind, np.int64)])
        sample = Sample(query.query_id, tokens, seen, np.zeros(0, np.int64), len(prompt))
        before = self.template.render(fields, bool(pictures))[0].count(PICTURE) if pictures else 0
        order = [*inside[:before], *pictures, *inside[before:]]
        return VlmExample(sample, tuple(tensors for tensors, _ in order))

    def _shown(self, query: Query) -> Iterator[Any]:
        """The picture, then the crops of its first regions in reading order."""
        picture = self.images.open(query.image)
        yield picture
        hidden = zlib.crc32(query.query_id.encode()) / 2**32 < self.hide_regions
        if not self.config.crops or hidden:
            return
        found = self.regions.get(query.image)
        boxes = found.boxes[: min(found.count, self.config.crops)]
        order = reading_order(boxes / np.array([*found.size, *found.size], np.float32))
        names = ("",) * len(boxes)
        chosen = PictureBoxes(query.image, found.size, boxes[order], names, (1.0,) * len(boxes))
        yield from crop_boxes(picture, chosen, len(boxes))

    def _encode(self, fields: Fields, pictures: Sequence[str], inside: Sequence[str]) -> np.ndarray:
        """int64[T]: the prompt, with the tokens of the query's pictures and of those in its passage."""
        texts = self.template.render(fields, bool(pictures))
        if sum((text or "").count(PICTURE) for text in texts) < len(inside):
            raise ModelError(
                f"a prompt of {self.max_prompt_tokens} tokens has no room for the picture of a passage; raise max_prompt_tokens or "
                "shorten the template"
            )
        return np.array(self.frame.encode(self.frame(texts, pictures, inside)), np.int64)

    def _plain(self, text: str) -> str:
        """A text without what the tokenizer would read as a special token."""
        for token in self._special:
            text = text.replace(token, " ")
        return " ".join(text.split())

    def _require_room(self, length: int, pictures: int, called: str, query: Query) -> None:
        most = self.parts.context - ROOM
        if length <= most:
            return
        if not pictures:
            raise ModelError(
                f"the prompt of the query {query.query_id!r} has {length} tokens, the model reads {most} beside a clue; lower "
                "max_prompt_tokens"
            )
        limits = "model.max_pixels or model.crops" if self.parts.family.grid else "model.crops"
        raise VisionError(
            f"{called} is too large: its {pictures} tokens with {length - pictures} of text are more than the {most} that the model "
            f"reads beside a clue; give a smaller one, or train with a lower {limits}"
        )
