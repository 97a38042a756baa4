"""The token vectors of a collection's documents, which follow its changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.interfaces import TokenEncoder, TokenVectors
from gemkr.types import Document
from gemkr.vector_index.held_segments import HeldTokens
from gemkr.vector_index.maxsim import picked
from gemkr.vector_index.segment_folder import MadeBy
from gemkr.vector_index.segment_store import MOST_ENCODED, Followed, Parts, follow
from gemkr.vector_index.token_store import TokenWriter, open_tokens, token_plan


@dataclass(frozen=True)
class TokenKind:
    """A `Kind`: the float16 token vectors of `encoder`; none for deleted documents."""

    encoder: TokenEncoder | MadeBy

    @cached_property
    def fingerprint(self) -> str:
        """The encoder's, which may read all of its weights."""
        return self.encoder.fingerprint

    def plan(self, name: str, documents: int) -> dict[str, Any]:
        return token_plan(self.fingerprint, name, documents, self.encoder.width)

    def open(self, place: Path, plan: dict[str, Any], remedy: str) -> TokenVectors:
        return open_tokens(place, plan, remedy)

    def writer(self, place: Path, plan: dict[str, Any]) -> TokenWriter:
        return TokenWriter(place, plan)

    def encoded(self, documents: list[Document]) -> TokenVectors:
        found = self.encoder.encode_documents(documents)
        shape, count = found.values.shape, len(found.offsets) - 1
        if count != len(documents) or shape[1:] != (self.encoder.width,):
            raise DataError(
                f"the encoder gave token vectors of the shape {list(shape)} for {count} documents, {self.encoder.width} numbers each "
                f"were to come for {len(documents)}; correct it"
            )
        return found

    def block(
        self, count: int, sources: Sequence[tuple[np.ndarray, TokenVectors, np.ndarray]]
    ) -> TokenVectors:
        lengths = np.zeros(count, np.int64)
        for places, tokens, rows in sources:
            lengths[places] = np.diff(tokens.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = np.empty((offsets[-1], self.encoder.width), np.float16)
        with np.errstate(over="ignore"):  # which the writer refuses
            for places, tokens, rows in sources:
                own = picked(tokens, rows)
                shift = np.repeat(offsets[places] - own.offsets[:-1], lengths[places])
                values[shift + np.arange(len(own.values))] = own.values
        return TokenVectors(values, offsets)

    def held(self, parts: Parts, stored: list[TokenVectors]) -> HeldTokens:
        return HeldTokens(parts, stored, (self.fingerprint,), self.encoder.width)


def segment_tokens(
    folder: str | Path,
    parts: Parts,
    encoder: TokenEncoder,
    remedy: str,
    *,
    most: float = MOST_ENCODED,
    progress: bool = False,
) -> tuple[HeldTokens, Followed[TokenVectors]]:
    """The token vectors of a generation, and what `follow` did for them."""
    kind = TokenKind(encoder)
    found = follow(folder, parts, kind, remedy, most=most, progress=progress)
    return kind.held(parts, found.stored), found
