"""What UniIR's models are shown: a text with the instruction before it, a picture, or both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemkr.data.mbeir import tidy
from gemkr.errors import ModelError, first_line
from gemkr.models.embedder import open_picture
from gemkr.models.hf.folder import UNREADABLE
from gemkr.types import Document, Query
from gemkr.vision.protocols import Pictures


class PairReader:
    """Reads items into `tokens` and `token_mask` int64[n, T], `pixels` float32[pictures, 3, H, W], and `has_text`, `has_image`
    bool[n]; the pictures are those of the items that have one, in order.

    Texts are padded to the longest with `pad_id`, or all to `max_tokens` where the length is `fixed`.
    """

    def __init__(
        self,
        tokenizer: Any,
        processor: Any,
        pictures: Pictures | None,
        *,
        max_tokens: int,
        pad_id: int,
        fixed: bool,
    ) -> None:
        self.tokenizer, self.processor, self.pictures = tokenizer, processor, pictures
        self.max_tokens, self.pad_id, self.fixed = max_tokens, pad_id, fixed

    def queries(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """The instruction (where there is one) before the question, and the picture."""
        texts = [tidy(query.question, query.instruction) for query in queries]
        names = [f"the query {query.query_id!r}" for query in queries]
        return self._read(texts, [query.image for query in queries], names)

    def documents(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Title and text, and the picture."""
        texts = [tidy(document.contents) for document in documents]
        names = [f"the document {document.doc_id!r}" for document in documents]
        return self._read(texts, [document.image for document in documents], names)

    def _read(
        self, texts: Sequence[str], images: Sequence[str | None], names: Sequence[str]
    ) -> dict[str, Tensor]:
        for text, image, name in zip(texts, images, names, strict=True):
            if not text and image is None:
                raise ModelError(f"{name} has neither a text nor a picture; give it one")
        rows = [
            self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"] for text in texts
        ]
        length = self.max_tokens if self.fixed else max(map(len, rows), default=0)
        tokens = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros_like(tokens)
        for number, row in enumerate(rows):
            tokens[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        shown = [open_picture(self.pictures, image, name) for image, name in zip(images, names) if image]
        size = picture_size(self.processor)
        pixels = torch.zeros((0, 3, *size))
        if shown:
            pixels = torch.as_tensor(self.processor(images=shown, return_tensors="np")["pixel_values"])
        return {
            "tokens": tokens,
            "token_mask": mask,
            "pixels": pixels,
            "has_text": torch.tensor([bool(text) for text in texts], dtype=torch.bool),
            "has_image": torch.tensor([image is not None for image in images], dtype=torch.bool),
        }


def picture_size(processor: Any) -> tuple[int, int]:
    """(height, width) of the pictures that a processor makes."""
    size = getattr(processor, "crop_size", None) or processor.size
    return int(size["height"]), int(size["width"])


def load_reading(folder: str, what: str) -> tuple[Any, Any]:
    """Tokenizer and image processor of a local folder; ModelError where that fails."""
    return load_text_reading(folder, what), load_image_reading(folder, what)


def load_text_reading(folder: str, what: str) -> Any:
    """The tokenizer of a local folder; ModelError where that fails."""
    from transformers import AutoTokenizer

    return _loaded(AutoTokenizer, folder, what, "tokenizer")


def load_image_reading(folder: str, what: str) -> Any:
    """The image processor of a local folder (by PIL, the same with and without torchvision); ModelError where that fails."""
    from transformers import AutoImageProcessor

    return _loaded(AutoImageProcessor, folder, what, "image processor", backend="pil")


def _loaded(auto: Any, folder: str, what: str, part: str, **settings: str) -> Any:
    if not Path(folder).is_dir():
        raise ModelError(f"the {what} folder {folder} is not there; give a local Hugging Face folder")
    try:
        return auto.from_pretrained(folder, local_files_only=True, **settings)
    except UNREADABLE as error:
        raise ModelError(
            f"the {what} folder {folder} has no {part} that can be loaded: {first_line(error)}"
        ) from error
