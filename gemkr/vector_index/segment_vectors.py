"""The vectors of a collection's documents, which follow its changes; those of a corpus file beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.interfaces import Encoder
from gemkr.types import Document
from gemkr.vector_index.held_segments import HeldVectors
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.segment_folder import MadeBy
from gemkr.vector_index.segment_store import MOST_ENCODED, Followed, Parts, follow, live_parts
from gemkr.vector_index.store import VectorWriter, open_vectors, plan_of, vector_plan
from gemkr.vector_index.vectors import DTYPES, Vectors, as_stored


@dataclass(frozen=True)
class VectorKind:
    """A `Kind`: one vector of `encoder` for each document, kept as `dtype`; zeros for deleted ones."""

    encoder: Encoder | MadeBy
    dtype: str

    @cached_property
    def fingerprint(self) -> str:
        """The encoder's, which may read all of its weights."""
        return self.encoder.fingerprint

    def plan(self, name: str, documents: int) -> dict[str, Any]:
        return vector_plan(self.fingerprint, name, documents, self.encoder.width, self.dtype)

    def open(self, place: Path, plan: dict[str, Any], remedy: str) -> Vectors:
        return open_vectors(place, plan, remedy)

    def writer(self, place: Path, plan: dict[str, Any]) -> VectorWriter:
        return VectorWriter(place, plan)

    def encoded(self, documents: list[Document]) -> Vectors:
        return as_stored(self.encoder.encode_documents(documents), self.dtype)

    def block(self, count: int, sources: Sequence[tuple[np.ndarray, Vectors, np.ndarray]]) -> Vectors:
        width = self.encoder.width
        values = np.zeros((count, width), DTYPES[self.dtype])
        scales = np.zeros(count, np.float32) if self.dtype == "int8" else None
        for places, vectors, rows in sources:
            if vectors.width != width or len(vectors) < len(rows):
                raise DataError(
                    f"the encoder gave vectors of the shape {[len(vectors), vectors.width]} for {len(rows)} documents, {width} numbers "
                    "each were to come; correct its width"
                )
            values[places] = vectors.values[rows]
            if scales is not None:
                scales[places] = vectors.scales[rows]
        return Vectors(values, scales)

    def held(self, parts: Parts, stored: list[Vectors]) -> HeldVectors:
        return HeldVectors(parts, stored, (self.fingerprint, self.dtype), self.encoder.width)


def segment_vectors(
    folder: str | Path,
    parts: Parts,
    encoder: Encoder,
    dtype: str,
    remedy: str,
    *,
    most: float = MOST_ENCODED,
    progress: bool = False,
) -> tuple[HeldVectors, Followed[Vectors]]:
    """The vectors of a generation, and what `follow` did for them."""
    kind = VectorKind(encoder, dtype)
    found = follow(folder, parts, kind, remedy, most=most, progress=progress)
    return kind.held(parts, found.stored), found


def corpus_vectors(
    folder: str | Path, documents: Any, encoder: Encoder, dtype: str, remedy: str
) -> Vectors | LiveVectors:
    """The vectors of a corpus file's documents, or of a collection's; DataError, ending in `remedy`, where they are missing."""
    parts = live_parts(documents)
    if parts is None:
        return open_vectors(folder, plan_of(encoder, documents, dtype), remedy)
    return segment_vectors(folder, parts, encoder, dtype, remedy)[0].live
