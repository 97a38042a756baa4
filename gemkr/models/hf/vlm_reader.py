"""What a vision-language model is shown of a query or document: a template, filled with a text and a picture's tokens.

The picture's tokens are counted and put in here, and pictures are prepared by PIL, so that no processor of the library is needed
that would want torchvision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gemkr.errors import ModelError
from gemkr.types import Document, Query
from gemkr.vision.protocols import Pictures

TEMPLATES = {
    "vlm2vec": ("{tokens}\n", "{image}{text}"),
    "lamra": (
        "<|vision_start|>{tokens}<|vision_end|>",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{image}{text}\nSummarize above {kind} in one "
        "word: <|im_end|>\n<|im_start|>assistant\n<emb>.",
    ),
}
"""Known names of templates -> what {image} stands for where there is a picture, and the template."""
KINDS = {(True, True): "image and sentence", (False, True): "sentence", (True, False): "image"}
"""What {kind} stands for, by whether there are a picture and a text."""
BEFORE = "before:"
PLACES = re.compile(r"\{(image|text|kind)\}")


@dataclass(frozen=True)
class Family:
    """How the models of a family take pictures: `count(picture's tensors, row)` is the number of its tokens."""

    prepare: Callable[[Any, Sequence[Any]], dict[str, Tensor]]
    count: Callable[[dict[str, Tensor], int, Any, Any], int]
    typed: bool
    """Whether the model wants to be told which tokens are pictures."""


def _grid_count(inputs: dict[str, Tensor], row: int, processor: Any, config: Any) -> int:
    return int(inputs["image_grid_thw"][row].prod()) // processor.merge_size**2


def _square_count(inputs: dict[str, Tensor], row: int, processor: Any, config: Any) -> int:
    side = config.vision_config.image_size // config.vision_config.patch_size
    return side**2 + (config.vision_feature_select_strategy != "default")


def _prepared(processor: Any, pictures: Sequence[Any]) -> dict[str, Tensor]:
    found = processor(images=list(pictures), return_tensors="np")
    return {name: torch.as_tensor(values) for name, values in found.items()}


QWEN = Family(_prepared, _grid_count, typed=True)
FAMILIES = {
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
    "qwen3_vl": QWEN,
    "llava": Family(_prepared, _square_count, typed=False),
}
"""`model_type` of a configuration -> how it takes pictures."""


class VlmReader:
    """Reads items into `input_ids`, `attention_mask` int64[n, T], padded on the right, and the model's own picture tensors.

    With `pool` "before:TOKEN" a prompt ends before the TOKEN of the template: a causal model's state there depends on nothing behind
    it. Of a longer text the first `max_tokens` tokens are read.
    """

    def __init__(
        self,
        tokenizer: Any,
        processor: Any,
        pictures: Pictures | None,
        config: Any,
        *,
        template: str,
        image: str | None,
        pool: str,
        max_tokens: int,
    ) -> None:
        """ModelError for a template without {text}, a model of an unknown family, or a pool that the template has no token for."""
        known = TEMPLATES.get(template, ("{tokens}", template))
        self.image, self.template = (known[0] if image is None else image), known[1]
        if "{text}" not in self.template:
            raise ModelError(
                f"the template {template!r} has no {{text}} in it; put it there, or name one of {', '.join(TEMPLATES)}"
            )
        if config.model_type not in FAMILIES:
            raise ModelError(
                f"models of the type {config.model_type!r} cannot be embedders here; known are {', '.join(FAMILIES)}"
            )
        if pool.startswith(BEFORE):
            before = pool.removeprefix(BEFORE)
            place = self.template.rfind(before) if before else -1
            if place < self.template.rfind("{text}"):
                raise ModelError(
                    f"pool is {pool!r} and the template has no {before!r} behind its {{text}}; put it there, or use pool: last"
                )
            self.template = self.template[:place]
        elif pool != "last":
            raise ModelError(f"pool is {pool!r}; use last or {BEFORE}TOKEN")
        self.family, self.config = FAMILIES[config.model_type], config
        self.tokenizer, self.processor, self.pictures = tokenizer, processor, pictures
        self.max_tokens, self.image_id = max_tokens, config.image_token_id
        self.image_token = tokenizer.convert_ids_to_tokens(self.image_id)

    def queries(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """The instruction (where there is one) before the question, and the picture."""
        texts = [f"{query.instruction or ''} {query.question}".strip() for query in queries]
        names = [f"the query {query.query_id!r}" for query in queries]
        return self._read(texts, [query.image for query in queries], names)

    def documents(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Title and text, and the picture."""
        names = [f"the document {document.doc_id!r}" for document in documents]
        texts = [document.contents.strip() for document in documents]
        return self._read(texts, [document.image for document in documents], names)

    def _read(
        self, texts: Sequence[str], images: Sequence[str | None], names: Sequence[str]
    ) -> dict[str, Tensor]:
        for text, image, name in zip(texts, images, names, strict=True):
            if not text and image is None:
                raise ModelError(f"{name} has neither a text nor a picture; give it one")
            if image is not None and self.pictures is None:
                raise ModelError(
                    f"{name} has the picture {image!r} and no folder of pictures is known; set images"
                )
        shown = [self.pictures.open(image) for image in images if image is not None]
        inputs = self.family.prepare(self.processor, shown) if shown else {}
        rows, seen = [], 0
        for text, image in zip(texts, images, strict=True):
            count = 0 if image is None else self.family.count(inputs, seen, self.processor, self.config)
            seen += image is not None
            rows.append(self.tokenizer(self._prompt(text, count))["input_ids"])
        inputs["input_ids"] = torch.full(
            (len(rows), max(map(len, rows), default=0)), self._pad, dtype=torch.int64
        )
        inputs["attention_mask"] = torch.zeros_like(inputs["input_ids"])
        for number, row in enumerate(rows):
            inputs["input_ids"][number, : len(row)] = torch.tensor(row)
            inputs["attention_mask"][number, : len(row)] = 1
        if self.family.typed:
            inputs["mm_token_type_ids"] = (inputs["input_ids"] == self.image_id).to(torch.int32)
        return inputs

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None or pad == self.image_id else pad

    def _prompt(self, text: str, count: int) -> str:
        """The template with a text and `count` picture tokens; 0 for no picture."""
        text = self._cut(text.replace(self.image_token, ""))
        values = {
            "text": text,
            "image": self.image.replace("{tokens}", self.image_token * count) if count else "",
            "kind": KINDS[bool(count), bool(text) or not count],
        }
        return PLACES.sub(lambda place: values[place[1]], self.template)

    def _cut(self, text: str) -> str:
        """The first `max_tokens` tokens of a text."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(found) <= self.max_tokens else text[: found[self.max_tokens - 1][1]]
