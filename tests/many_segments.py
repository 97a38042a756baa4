"""A corpus as a collection of several segments with deleted documents, and a fresh index of the documents that are left."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
from toy_text import TEXTS

from gemkr.collection.change import Change
from gemkr.collection.collection import Collection
from gemkr.fm_index import FMIndex
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Document

DOCUMENTS = 240


def corpus() -> list[Document]:
    """Passages of words that repeat, so that clues have many occurrences."""
    rng = np.random.default_rng(5)
    words = [word for text in TEXTS for word in text.split()]
    return [
        Document(f"p{i}", " ".join(rng.choice(words, rng.integers(3, 14))), "Title" if i % 7 == 0 else "")
        for i in range(DOCUMENTS)
    ]


def gone() -> list[list[str]]:
    """Which documents are deleted, in two steps: a tenth of all."""
    return [[f"p{i}" for i in range(first, DOCUMENTS, 20)] for first in (3, 8)]


def collection_of(folder: Path, tokenizer: Path, segments: int) -> Collection:
    """The corpus in that many segments, none merged, a tenth of it deleted by two negative ones."""
    pieces = np.array_split(np.arange(DOCUMENTS), segments)
    documents = corpus()
    collection = Collection.create(folder, tokenizer=tokenizer, documents=[documents[i] for i in pieces[0]])
    with mock.patch.object(Change, "settle"):
        for piece in pieces[1:]:
            collection.add([documents[i] for i in piece])
        for ids in gone():
            collection.delete(ids)
    return collection


def live() -> list[Document]:
    """The documents that are left, in order."""
    deleted = {doc_id for ids in gone() for doc_id in ids}
    return [document for document in corpus() if document.doc_id not in deleted]


def fresh_index(documents: list[Document], tokenizer: Tokenizer) -> FMIndex:
    tokens = [tokenizer.encode(document.contents) for document in documents]
    return FMIndex.build(tokens, [document.doc_id for document in documents], tokenizer=tokenizer)
