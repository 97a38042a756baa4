"""Documents of a centroid index that were added together: their coded tokens, and the documents of each centroid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gemkr.interfaces import TokenVectors
from gemkr.progress import progress_bar
from gemkr.vector_index.token_codec import ResidualCodec

BLOCK = 1 << 15
"""Tokens encoded at once: 16 MiB of float32 at width 128."""
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
    def of(cls, tokens: TokenVectors, codec: ResidualCodec, *, progress: bool = False) -> Part:
        """Encode documents. Memory beyond the codes: a block, and 16 bytes a token while the lists are made."""
        n, width = tokens.values.shape
        codes = np.empty(n, np.uint16)
        residuals = np.empty((n, width * codec.bits // 8), np.uint8)
        with progress_bar(total=n, desc="indexing", unit=" tokens", disable=not progress) as bar:
            for start in range(0, n, BLOCK):
                block = slice(start, start + BLOCK)
                codes[block], residuals[block] = codec.encoded(tokens.values[block])
                bar.update(len(codes[block]))
        lists = _lists(codes, tokens.offsets, len(codec.centroids))
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
            np.save(folder / f"{name}.npy", getattr(self, name))
        if values and self.stored is not None:
            np.save(folder / f"{VALUES}.npy", self.stored.values.astype(np.float16, copy=False))

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


def _lists(codes: np.ndarray, offsets: np.ndarray, centroids: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64[centroids + 1], uint32): the documents of each centroid, rising and each once."""
    documents = len(offsets) - 1
    keys = codes.astype(np.int64)
    keys *= documents
    keys += np.repeat(np.arange(documents), np.diff(offsets))
    keys = np.unique(keys)
    ends = np.searchsorted(keys, np.arange(centroids + 1) * documents)
    return ends.astype(np.int64), (keys % max(documents, 1)).astype(np.uint32)
