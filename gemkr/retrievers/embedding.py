"""Encoding the documents of a corpus in blocks, for retrievers that read vectors of them: what `gemkr embed` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gemkr.data.documents import DocumentStore
from gemkr.progress import progress_bar
from gemkr.types import Document

BLOCK = 1024
"""Documents encoded between two saves."""
REMEDY = "make them with gemkr embed CONFIG NAME"


@dataclass(frozen=True)
class Embedded:
    """Documents encoded now, documents whose vectors were there, whether an index over them was built now, and the ids of those that
    have no vector and are never found."""

    encoded: int
    there: int
    index_built: bool
    empty: tuple[str, ...] = ()


def blocks_of(
    documents: DocumentStore, start: int = 0, *, progress: bool = False
) -> Iterator[list[Document]]:
    """The documents from number `start` on in blocks, with a bar that says how long the rest will take."""
    with progress_bar(
        desc="embedding", total=len(documents), initial=start, unit=" documents", disable=not progress
    ) as bar:
        for first in range(start, len(documents), BLOCK):
            block = documents[first : first + BLOCK]
            yield block
            bar.update(len(block))
