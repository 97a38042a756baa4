"""Documents of a centroid index that were added together: their coded tokens, and the documents of each centroid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from gemkr.errors import DataError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.npy_files import write_array
from gemkr.vector_index.token_codec import BLOCK, ResidualCodec
from gemkr.vector_index.vectors import as_stored

GROUPS = 16
"""Ranges of centroids whose lists are made one after the other."""
ARRAYS = ("offsets", "codes", "residuals", "list_offsets", "list_docs")
VALUES, UNLIKE = "values", "unlike"
AFAR = 2.0
"""A document that was added is unlike those that the centroids were learned from where these leave more than so many times as much of its
tokens (mean square) as of theirs."""


@dataclass(frozen=True)
class Part:
    """Documents numbered from 0: tokens offsets[j] to offsets[j + 1] have `codes` uint16 and `residuals` uint8[tokens, bytes]; the
    documents of centroid c are list_docs[list_offsets[c]:list_offsets[c + 1]], each once. `stored` are the vectors themselves, where
    they are at hand. `unlike` bool[n] marks documents that centroids say too little of; None: there is none."""

    offsets: np.ndarray
    codes: np.ndarray
    residuals: np.ndarray
    list_offsets: np.ndarray
    list_docs: np.ndarray
    stored: TokenVectors | None = None
    unlike: np.ndarray | None = None

    @classmethod
    def of(cls, tokens: TokenVectors, codec: ResidualCodec) -> Part:
        """Encode documents. Memory beyond the codes: a block, and what `lists_of` takes."""
        codes = np.empty(len(tokens.values), np.uint16)
        residuals = np.empty((len(tokens.values), codec.bytes), np.uint8)
        for start in range(0, len(codes), BLOCK):
            block = slice(start, start + BLOCK)
            codes[block], residuals[block] = codec.encoded(tokens.values[block])
        lists = lists_of(codes, tokens.offsets, len(codec.centroids))
        return cls(np.ascontiguousarray(tokens.offsets, np.int64), codes, residuals, *lists, stored=tokens)

    @classmethod
    def added(cls, tokens: TokenVectors, codec: ResidualCodec) -> Part:
        """As `of`, of documents that the codec was not learned from: those unlike what it was learned from are marked."""
        part = cls.of(tokens, codec)
        left = np.zeros(len(part.codes) + 1)
        for start in range(0, len(part.codes), BLOCK):
            block = slice(start, start + BLOCK)
            rest = tokens.values[block] - codec.centroids[part.codes[block]]
            left[1:][block] = np.einsum("td,td->t", rest, rest)
        sums = np.diff(np.cumsum(left)[part.offsets])
        unlike = sums > AFAR * float(codec.scales @ codec.scales) * np.diff(part.offsets)
        return replace(part, unlike=unlike) if unlike.any() else part

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def marks(self) -> np.ndarray:
        """bool[n]: `unlike` of each document."""
        return np.zeros(len(self), bool) if self.unlike is None else self.unlike

    @property
    def bytes(self) -> int:
        """Of codes and lists."""
        return sum(getattr(self, name).nbytes for name in ARRAYS)

    def save(self, folder: Path, *, values: bool) -> None:
        """Write the arrays into a new folder, with `values` the vectors too."""
        folder.mkdir()
        for name in ARRAYS:
            write_array(folder / f"{name}.npy", getattr(self, name))
        if values and self.stored is not None:
            write_array(folder / f"{VALUES}.npy", self.stored.values.astype(np.float16, copy=False))
        if self.unlike is not None:
            write_array(folder / f"{UNLIKE}.npy", self.unlike)

    @classmethod
    def open(cls, folder: Path) -> Part:
        """Map what `save` wrote; OSError or ValueError where that fails."""
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        part = cls(**{name: np.asarray(array) for name, array in arrays.items()})
        if (folder / f"{UNLIKE}.npy").is_file():
            part = replace(part, unlike=np.load(folder / f"{UNLIKE}.npy", allow_pickle=False))
        path = folder / f"{VALUES}.npy"
        if not path.is_file():
            return part
        values = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return replace(part, stored=TokenVectors(values, part.offsets))


def checked_documents(tokens: TokenVectors, width: int) -> TokenVectors:
    """Documents that are to be added, their vectors as float16. DataError for vectors of another width, offsets that do not fit them, and
    a number that float16 cannot hold."""
    if tokens.values.ndim != 2 or tokens.values.shape[1] != width:
        raise DataError(
            f"the new documents' vectors have the shape {tokens.values.shape}, the index holds vectors of {width} numbers; use its encoder"
        )
    ends = tokens.offsets[[0, -1]].tolist() if len(tokens.offsets) else []
    if ends != [0, len(tokens.values)] or (np.diff(tokens.offsets) < 0).any():
        raise DataError(
            f"the new documents' offsets must rise from 0 to their {len(tokens.values)} vectors; give one more than there are documents"
        )
    return TokenVectors(as_stored(tokens.values, "float16").values, tokens.offsets)


def lists_of(
    codes: np.ndarray,
    offsets: np.ndarray,
    centroids: int,
    told: Callable[[int], object] = lambda tokens: None,
) -> tuple[np.ndarray, np.ndarray]:
    """(int64[centroids + 1], uint32): the documents of each centroid, rising and each once; `told` how many tokens are done. Memory:
    5 bytes a token, and 32 for each one of the largest of GROUPS."""
    documents = max(len(offsets) - 1, 1)
    ends, docs, total = np.zeros(centroids + 1, np.int64), np.empty(len(codes), np.uint32), 0
    for low, high in pairwise(np.linspace(0, centroids, GROUPS + 1).astype(int).tolist()):
        own = np.flatnonzero((codes >= low) & (codes < high))
        keys = codes[own].astype(np.int64)
        keys *= documents
        keys += np.searchsorted(offsets, own, side="right") - 1
        keys = np.unique(keys)
        ends[low + 1 : high + 1] = total + np.searchsorted(keys, np.arange(low + 1, high + 1) * documents)
        docs[total : total + len(keys)] = keys % documents
        total += len(keys)
        told(len(own))
    docs.resize(total, refcheck=False)
    return ends, docs
