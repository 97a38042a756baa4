"""What FLMR's network is shown: tokens between markers, which of them count, pictures, and crops of their regions."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gemkr.errors import ModelError
from gemkr.models.embedder import open_picture
from gemkr.models.uniir.reader import picture_size
from gemkr.types import Document, Query, QueryVector
from gemkr.vision.boxes import PictureBoxes
from gemkr.vision.crops import crop_boxes
from gemkr.vision.protocols import Pictures, Regions

COLONS = ":\uff1a"
"""What an instruction may end with, in English or Chinese; it is read with " :" at its end."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in shares of a picture."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts and pictures are read: lengths in tokens with markers, markers as the tokenizer spells them, whether queries are
    filled up with [MASK] tokens that are scored, whether a question's tokens are scored at all beside a picture, how many regions
    count, and whether a query without a picture is shown a black one."""

    query_tokens: int
    document_tokens: int
    query_marker: str
    document_marker: str
    mask_padding: bool
    score_question: bool
    regions: int
    black_picture: bool


class FLMRReader:
    """Reads queries into `query_tokens`, documents into `document_tokens`, with `attended` and `scored`, int64 and bool[n, T];
    `pixels` float32[pictures, 3, H, W] are those of the items that `has_image` bool[n]; for queries also `crops` and
    `crop_owners` int64[crops], the item that each belongs to.

    A query is [CLS] [Q] instruction question [SEP] and always of `query_tokens` tokens; the instruction is read, and not scored.
    A document is [CLS] [D] text [SEP]; punctuation is not scored, nor a marker that is punctuation (▁. of XLM-R). Where nothing of a text is left, its markers do not count either.
    """

    def __init__(
        self,
        tokenizer: Any,
        processor: Any,
        pictures: Pictures | None,
        regions: Regions | None,
        reading: Reading,
    ) -> None:
        """ModelError for a marker that the tokenizer does not know, or a tokenizer without the tokens that are needed."""
        self.tokenizer, self.processor, self.reading = tokenizer, processor, reading
        self._pictures, self._regions = pictures, regions
        self._markers = [self._known(marker) for marker in (reading.query_marker, reading.document_marker)]
        needed = {"[CLS]": tokenizer.cls_token_id, "[SEP]": tokenizer.sep_token_id}
        needed |= {"[PAD]": tokenizer.pad_token_id}
        needed |= {"[MASK]": tokenizer.mask_token_id} if reading.mask_padding else {}
        for name, number in needed.items():
            if number is None:
                raise ModelError(
                    f"the tokenizer has no {name} token, which late interaction needs; use the folder of a BERT or XLM-R"
                )
        symbols = (tokenizer(symbol, add_special_tokens=False)["input_ids"] for symbol in string.punctuation)
        self._punctuation = {ids[0] for ids in symbols if ids and ids[0] != tokenizer.unk_token_id}
        self._scores_marker = self._markers[1] not in self._punctuation

    def _known(self, marker: str) -> int:
        number = self.tokenizer.convert_tokens_to_ids(marker)
        if number is None or (number == self.tokenizer.unk_token_id and marker != self.tokenizer.unk_token):
            raise ModelError(
                f"the tokenizer knows no marker {marker!r}; set query_marker and document_marker to tokens of its vocabulary, such as "
                "[unused0] and [unused1] for BERT or ▁. for XLM-R"
            )
        return number

    def queries(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """ModelError for a query without a word and a picture; VisionError for a picture or region that is missing."""
        names = [f"the query {query.query_id!r}" for query in queries]
        images = [query.image for query in queries]
        for query, name in zip(queries, names, strict=True):
            if not query.question.strip() and not query.instruction and query.image is None:
                raise ModelError(f"{name} has neither a question nor a picture; give it one")
        opened = [
            open_picture(self._pictures, image, name) if image else None for image, name in zip(images, names)
        ]
        crops, owners = self._crops(opened, images, names)
        return self._query_texts(queries) | self._pixels(opened) | {"crops": crops, "crop_owners": owners}

    def _query_texts(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """The tokens of queries beside whatever pictures; nothing of one without a word is scored."""
        rows = [self._query_row(query) for query in queries]
        tokens, attended, scored = self._padded(rows, self.reading.query_tokens)
        if self.reading.mask_padding:
            padding = attended == 0
            tokens[padding] = self.tokenizer.mask_token_id
            scored |= padding & scored.any(dim=1, keepdim=True)
        if not self.reading.score_question:
            scored &= torch.tensor([query.image is None for query in queries])[:, None]
        return {"query_tokens": tokens, "attended": attended, "scored": scored}

    def documents(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Title and text, and the picture."""
        texts = [document.contents for document in documents]
        limit = self.reading.document_tokens - 3
        rows = []
        for ids in self._ids(texts, limit):
            counts = [token not in self._punctuation for token in ids]
            marked = any(counts)
            rows.append(self._between(1, ids, [marked, marked and self._scores_marker, *counts, marked]))
        length = max((len(ids) for ids, _ in rows), default=0)
        tokens, attended, scored = self._padded(rows, length)
        opened = [
            open_picture(self._pictures, d.image, f"the document {d.doc_id!r}") if d.image else None
            for d in documents
        ]
        found = {"document_tokens": tokens, "attended": attended, "scored": scored}
        return found | self._pixels(opened, fill=False)

    def described_tokens(self, query: Query) -> list[QueryVector]:
        """The scored tokens of a query, as the tokenizer spells them."""
        found = self._query_texts([query])
        tokens = found["query_tokens"][0][found["scored"][0]].tolist()
        return [QueryVector(token) for token in self.tokenizer.convert_ids_to_tokens(tokens)]

    def described_boxes(self, query: Query) -> tuple[Box, list[Box]]:
        """The part of a query's picture that the vision tower sees, and the boxes of its regions, in shares of the picture."""
        width, height = open_picture(self._pictures, query.image, f"the query {query.query_id!r}").size
        boxes = (
            boxes_of(self._regions, query.image).boxes[: self.reading.regions] if self.reading.regions else []
        )
        shares = np.asarray(boxes).reshape(-1, 4) / (width, height, width, height)
        regions = [tuple(box) for box in shares.clip(0, 1).tolist()]  # as their crops are cut at its edges
        return seen_part(self.processor, width, height), regions

    def document_ranges(self, document: Document) -> np.ndarray:
        """int64[m, 2]: the characters of the scored tokens of a document's contents; (0, 0) for markers."""
        limit = self.reading.document_tokens - 3
        found = self.tokenizer(
            document.contents, add_special_tokens=False, truncation=True, max_length=limit, return_offsets_mapping=True
        )  # fmt: skip
        kept = [
            place
            for token, place in zip(found["input_ids"], found["offset_mapping"], strict=True)
            if token not in self._punctuation
        ]
        rows = [(0, 0)] * (1 + self._scores_marker) + [*kept, (0, 0)] if kept else []
        return np.array(rows, np.int64).reshape(-1, 2)

    def _query_row(self, query: Query) -> tuple[list[int], list[bool]]:
        instruction = (query.instruction or "").strip().rstrip(COLONS).rstrip()
        before = self._ids([f"{instruction} :"], None)[0] if instruction else []
        question = self._ids([query.question], None)[0]
        ids = [*before, *question][: self.reading.query_tokens - 3]
        hidden = min(len(before), len(ids))
        marked = bool(before or question)
        counts = [marked, marked, *[False] * hidden, *[True] * (len(ids) - hidden), marked]
        return self._between(0, ids, counts)

    def _between(self, side: int, ids: Sequence[int], counts: list[bool]) -> tuple[list[int], list[bool]]:
        return [
            self.tokenizer.cls_token_id, self._markers[side], *ids, self.tokenizer.sep_token_id
        ], counts  # fmt: skip

    def _ids(self, texts: Sequence[str], limit: int | None) -> list[list[int]]:
        cut = {} if limit is None else {"truncation": True, "max_length": limit}
        return self.tokenizer(list(texts), add_special_tokens=False, **cut)["input_ids"]

    def _padded(
        self, rows: Sequence[tuple[list[int], list[bool]]], length: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        tokens = torch.full((len(rows), length), self.tokenizer.pad_token_id, dtype=torch.int64)
        attended, scored = torch.zeros_like(tokens), torch.zeros(tokens.shape, dtype=torch.bool)
        for number, (ids, counts) in enumerate(rows):
            tokens[number, : len(ids)] = torch.tensor(ids)
            attended[number, : len(ids)] = 1
            scored[number, : len(ids)] = torch.tensor(counts)
        return tokens, attended, scored

    def _pixels(self, opened: Sequence[Any], *, fill: bool = True) -> dict[str, Tensor]:
        has = torch.tensor([picture is not None for picture in opened], dtype=torch.bool)
        shown = [picture for picture in opened if picture is not None]
        if fill and self.reading.black_picture and not bool(has.all()):
            from PIL import Image

            black = Image.new("RGB", picture_size(self.processor)[::-1])
            shown = [black if picture is None else picture for picture in opened]
            has = torch.ones_like(has)
        return {"pixels": self._processed(shown), "has_image": has}

    def _processed(self, shown: Sequence[Any]) -> Tensor:
        if not shown:
            size = (0, 0) if self.processor is None else picture_size(self.processor)
            return torch.zeros((0, 3, *size))
        if self.processor is None:
            raise ModelError(
                "this encoder has no vision tower and was given a picture; set vision to a folder of CLIP"
            )
        return torch.as_tensor(self.processor(images=list(shown), return_tensors="np")["pixel_values"])

    def _crops(
        self, opened: Sequence[Any], images: Sequence[str | None], names: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        crops, owners = [], []
        if self.reading.regions:
            for number, (picture, image) in enumerate(zip(opened, images, strict=True)):
                if picture is None:
                    continue
                if self._regions is None:
                    raise ModelError(
                        f"{names[number]} has a picture and no store of regions is known; set regions (at question time, a detector), or encoder.regions to 0"
                    )
                own = list(crop_boxes(picture, boxes_of(self._regions, image), self.reading.regions))
                crops += own
                owners += [number] * len(own)
        return self._processed(crops), torch.tensor(owners, dtype=torch.int64)


def boxes_of(regions: Regions, image: str) -> PictureBoxes:
    """The boxes of a picture; VisionError for one that has none here, or one outside of it."""
    found = regions.get(image)
    boxes = PictureBoxes(image, found.size, found.boxes, found.classes, found.scores)
    boxes.require_inside()
    return boxes


def seen_part(processor: Any, width: int, height: int) -> Box:
    """What of a picture of this size remains when its shortest edge is scaled and the middle is cut out, as CLIP's processor does."""
    shortest = (processor.size or {}).get("shortest_edge")
    if not getattr(processor, "do_center_crop", False) or not shortest:
        return 0.0, 0.0, 1.0, 1.0
    down, across = picture_size(processor)
    scale = shortest / min(width, height)
    x, y = min(1.0, across / (width * scale)) / 2, min(1.0, down / (height * scale)) / 2
    return 0.5 - x, 0.5 - y, 0.5 + x, 0.5 + y
