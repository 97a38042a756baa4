"""What a vision-language model is shown of a query or document: a template, filled with a text and a picture's tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gemkr.data.mbeir import tidy
from gemkr.errors import ModelError
from gemkr.models.embedder import open_picture
from gemkr.models.hf.vlm_folder import VlmParts
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


class VlmReader:
    """Reads items into `input_ids`, `attention_mask` int64[n, T], padded on the right, and the model's own picture tensors.

    With `pool` "before:TOKEN" a prompt ends before the TOKEN of the template: a causal model's state there depends on nothing behind
    it. Of a longer text the first `max_tokens` tokens are read. What ends a text is kept, a line break of MMEB's too, whose state is the
    vector then; with `tidied`, texts are read as M-BEIR's are by `data.mbeir.tidy`.
    {kind} is `alone` for documents that are a picture without a text. With `square`, pictures are first brought to so many pixels a side, whatever their shape.
    """

    version = 2
    """1: white space that ends a text was left out."""

    def __init__(
        self,
        parts: VlmParts,
        pictures: Pictures | None,
        *,
        template: str,
        image: str | None,
        pool: str,
        max_tokens: int,
        tidied: bool = False,
        square: int | None = None,
        alone: str = KINDS[True, False],
    ) -> None:
        """ModelError for a template without {text}, a pool that the template has no token for, and an `alone` that no {kind} says."""
        known = TEMPLATES.get(template, ("{tokens}", template))
        self.image, self.template = (known[0] if image is None else image), known[1]
        if "{text}" not in self.template:
            raise ModelError(
                f"the template {template!r} has no {{text}} in it; put it there, or name one of {', '.join(TEMPLATES)}"
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
        if alone != KINDS[True, False] and "{kind}" not in self.template:
            raise ModelError(
                f"document_picture is {alone!r} and the template says no {{kind}} before its vector; leave document_picture out, or put "
                "{kind} there"
            )
        self.parts, self.family, self.pictures = parts, parts.family, pictures
        self.tokenizer, self.processor = parts.tokenizer, parts.processor
        self.max_tokens, self.image_id, self.tidied = max_tokens, parts.config.image_token_id, tidied
        self.image_token, self.square = parts.image_token, square
        self.document_kinds = KINDS | {(True, False): alone}

    def queries(self, queries: Sequence[Query]) -> dict[str, Tensor]:
        """The instruction (where there is one) before the question, and the picture."""
        texts = [self._text(query.question, query.instruction) for query in queries]
        names = [f"the query {query.query_id!r}" for query in queries]
        return self._read(texts, [query.image for query in queries], names)

    def documents(self, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Title and text, and the picture."""
        names = [f"the document {document.doc_id!r}" for document in documents]
        texts = [self._text(document.contents) for document in documents]
        return self._read(texts, [document.image for document in documents], names, self.document_kinds)

    def _read(
        self,
        texts: Sequence[str],
        images: Sequence[str | None],
        names: Sequence[str],
        kinds: Mapping[tuple[bool, bool], str] = KINDS,
    ) -> dict[str, Tensor]:
        for text, image, name in zip(texts, images, names, strict=True):
            if not text.strip() and image is None:
                raise ModelError(f"{name} has neither a text nor a picture; give it one")
        shown, rows = [], []
        for text, image, name in zip(texts, images, names, strict=True):
            tokens = ""
            if image is not None:
                picture = open_picture(self.pictures, image, name)
                if self.square is not None:
                    picture = picture.resize((self.square, self.square))
                found, tokens = self.parts.show(picture, f"the picture {image!r} of {name}")
                shown.append(found)
            rows.append(self.tokenizer(self._prompt(text, tokens, kinds))["input_ids"])
        inputs = self.family.join(shown)
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

    def _text(self, text: str, instruction: str | None = None) -> str:
        """A text behind its instruction, without white space before it."""
        if self.tidied:
            return tidy(text, instruction)
        return " ".join(part for part in (instruction, text) if part).lstrip()

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return 0 if pad is None or pad == self.image_id else pad

    def _prompt(self, text: str, tokens: str, kinds: Mapping[tuple[bool, bool], str]) -> str:
        """The template with a text and a picture's tokens; none for no picture."""
        text = self._cut(text.replace(self.image_token, ""))
        values = {
            "text": text,
            "image": self.image.replace("{tokens}", tokens) if tokens else "",
            "kind": kinds[bool(tokens), bool(text.strip()) or not tokens],
        }
        return PLACES.sub(lambda place: values[place[1]], self.template)

    def _cut(self, text: str) -> str:
        """The first `max_tokens` tokens of a text."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(found) <= self.max_tokens else text[: found[self.max_tokens - 1][1]]
