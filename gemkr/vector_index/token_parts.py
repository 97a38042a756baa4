"""Documents of a centroid index that were added together: their coded tokens, and the documents of each centroid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.vector_index.npy_files import write_array
from gemkr.vector_index.token_codec import BLOCK, ResidualCodec

GROUPS = 16
"""Ranges of centroids whose lists are made one after the other."""
ARRAYS = ("offsets", "codes", "residuals", "list_offsets", "list_docs")
VALUES = "values"


@dataclass(frozen=True)
class Part:
    """Documents numbered from 0: tokens offsets[j] to offsets[j + 1] have `codes` uint16 and `residuals` uint8[tokens, bytes]; the
    documents of centroid c are list_docs[list_offsets[c]:list_offsets[c + 1]], each once. `stored` are the vectors themselves, where
    they are at hand."""

    offsets: np.ndarray
    codes: np.ndarray
    residuals: np.ndarray
    list_offsets: np.ndarray
    list_docs: np.ndarray
    stored: TokenVectors | None = None

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

    def __len__(self) -> int:
        return len(self.offsets) - 1

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

    @classmethod
    def open(cls, folder: Path) -> Part:
        """Map what `save` wrote; OSError or ValueError where that fails."""
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        part = cls(**{name: np.asarray(array) for name, array in arrays.items()})
        path = folder / f"{VALUES}.npy"
        if not path.is_file():
            return part
        values = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return replace(part, stored=TokenVectors(values, part.offsets))


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
