"""What is kept of the segments of a generation, as one sequence: of vectors, and of token vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.exact import ExactIndex
from gemkr.vector_index.live_tokens import LiveTokens
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.segment_store import Parts
from gemkr.vector_index.token_exact import ExactTokenIndex
from gemkr.vector_index.vectors import DTYPES, Vectors

S = TypeVar("S")


@dataclass(frozen=True)
class Held(ABC, Generic[S]):
    """`stored`: what is kept of each segment's documents; `made_with`: the encoder's fingerprint, and how numbers are kept."""

    parts: Parts
    stored: list[S]
    made_with: tuple[str, ...]
    width: int

    indexes_deleted: ClassVar[bool]
    """Whether a learned index holds the deleted documents of its segments too."""

    @cached_property
    def live(self) -> Any:
        """The live documents' as one sequence."""
        return self.joined([(own, gone) for own, (_, gone) in zip(self.stored, self.parts, strict=True)])

    @property
    def empty(self) -> np.ndarray:
        """int64[m]: the live documents of which nothing can be found."""
        return np.zeros(0, np.int64)

    @abstractmethod
    def joined(self, parts: Sequence[tuple[S, np.ndarray]]) -> Any:
        """Those of several segments, each without the documents int64[m], ascending."""

    @abstractmethod
    def blank(self, documents: int) -> S:
        """What stands for a segment that is no more there."""

    @abstractmethod
    def exact(self) -> Any:
        """Exact search of the live documents."""


class HeldVectors(Held[Vectors]):
    """One vector a document."""

    indexes_deleted = False

    def joined(self, parts: Sequence[tuple[Vectors, np.ndarray]]) -> LiveVectors:
        return LiveVectors(parts, self.width)

    def blank(self, documents: int) -> Vectors:
        dtype = DTYPES[self.made_with[1]]
        scales = np.zeros(documents, np.float32) if dtype == np.int8 else None
        return Vectors(np.broadcast_to(np.zeros(1, dtype), (documents, self.width)), scales)

    def exact(self) -> ExactIndex:
        return ExactIndex(self.live)


class HeldTokens(Held[TokenVectors]):
    """Vectors of each document's tokens."""

    indexes_deleted = True

    @property
    def empty(self) -> np.ndarray:
        return np.flatnonzero(self.live.lengths == 0)

    def joined(self, parts: Sequence[tuple[TokenVectors, np.ndarray]]) -> LiveTokens:
        return LiveTokens(parts, self.width)

    def blank(self, documents: int) -> TokenVectors:
        return TokenVectors(np.empty((0, self.width), np.float16), np.zeros(documents + 1, np.int64))

    def exact(self) -> ExactTokenIndex:
        return ExactTokenIndex(self.live)
