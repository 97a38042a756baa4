"""What a reranker that asks a language model is shown of a document: its text and, where the model sees pictures, its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemkr.data.mbeir import tidy
from gemkr.errors import DataError
from gemkr.models.gemkr.fields import PICTURE
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.writers.config import WriterConfig
from gemkr.types import Document, Query


@dataclass(frozen=True, slots=True)
class Candidate:
    """`text`: title and text; `image`: the id of the picture that stands before it, None for none, with a `space` between them."""

    text: str
    image: str | None = None
    space: str = " "

    @property
    def passage(self) -> str:
        """What stands for it in a prompt."""
        return self.text if self.image is None else f"{PICTURE}{self.space}{self.text}".strip()

    @property
    def images(self) -> tuple[str, ...]:
        return () if self.image is None else (self.image,)


def sees_documents(model: WriterConfig, pictures: Any) -> bool:
    """Whether a model is shown the pictures of documents: a vision-language model is, where there is a folder of pictures."""
    return isinstance(model, VlmConfig) and pictures is not None


def candidate_of(query: Query, document: Document, kind: str, *, pictures: bool, tidied: bool) -> Candidate:
    """What a query's reranker `kind` reads of a document, its text `tidied` and right behind its picture (LamRA), which it reads too
    with `pictures`; DataError where there is nothing."""
    text = " ".join(document.contents.replace(PICTURE, " ").split())
    text = tidy(text) if tidied else text
    image = document.image if pictures else None
    if not text and image is None:
        raise DataError(
            f"the document {document.doc_id!r}, a hit of the query {query.query_id!r}, has no text, and the reranker {kind} "
            "reads nothing else; give it one, or rerank with a model that sees pictures (model.kind: vlm, with images)"
        )
    return Candidate(text, image, "" if tidied else " ")


def candidates_of(
    query: Query, documents: Sequence[Document], docs: np.ndarray, kind: str, *, pictures: bool, tidied: bool
) -> list[Candidate]:
    """`candidate_of` each of the document numbers int64[n]."""
    return [
        candidate_of(query, documents[doc], kind, pictures=pictures, tidied=tidied) for doc in docs.tolist()
    ]
