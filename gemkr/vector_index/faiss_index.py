"""Approximate search of documents' vectors by faiss: inverted lists of float16 vectors, or of 4-bit product codes.

Candidates that faiss finds are scored again from the vectors themselves, so that a document's score is the same in every index
and only which documents are found is approximate.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gemkr.config.ranges import Positive
from gemkr.errors import DataError, first_line
from gemkr.files import part_of
from gemkr.vector_index.exact import ExactIndex, checked_queries, rescored
from gemkr.vector_index.faiss_library import load_faiss
from gemkr.vector_index.vectors import Vectors

BLOCK = 16_384
SMALL_POOL = 20_000
"""A pool of at most so many documents is searched exactly."""
SAMPLE = 64
"""Vectors for each list that k-means learns from."""
LEAST_SAMPLE = 39
"""Vectors for each list below which faiss warns that lists are badly learned."""
CODE_BITS = 4
SEARCHES = frozenset({"probes", "rescore"})
"""Settings that change how an index is searched, not what it is."""


class _FaissIndex(ABC):
    """A `VectorIndex` over vectors and a faiss index of inverted lists made of them; subclasses say how these store a vector.

    `allowed`: a pool of at most SMALL_POOL documents is searched exactly; in a larger one faiss passes over what is not allowed,
    in the same `probes` lists. A query for which the lists give fewer than k documents is searched exactly as well, so that
    rankings are never short.
    """

    name: ClassVar[str]

    def __init__(self, index: Any, vectors: Vectors, *, probes: int, candidates: int) -> None:
        """`candidates` for each of the k documents are scored again."""
        if (index.ntotal, index.d) != (len(vectors), vectors.width):
            raise DataError(
                f"the index is of {index.ntotal} vectors of {index.d} numbers, the vectors are {len(vectors)} of {vectors.width}; "
                "build it anew"
            )
        self.index, self.vectors, self.probes, self.candidates = index, vectors, probes, candidates
        self._exact = ExactIndex(vectors)

    @classmethod
    def from_config(cls, config: Any, vectors: Vectors, folder: str | Path | None = None) -> _FaissIndex:
        """Over vectors in memory, built now; over those of a folder, the index that `prepare` wrote there, memory-mapped.

        DataError where it is missing or damaged.
        """
        faiss = load_faiss()

        lists = _lists(config.lists, len(vectors))
        if folder is None:
            index = cls.build(config, vectors)
        else:
            path = cls.path(config, vectors, folder)
            if not path.is_file():
                raise DataError(
                    f"the vectors {folder} have no {cls.name} index of these settings; make it with gemkr embed CONFIG NAME"
                )
            try:
                index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            except RuntimeError as error:
                raise DataError(
                    f"the index {path} cannot be read ({first_line(error)}); delete it and make it with gemkr embed CONFIG NAME"
                ) from error
        return cls(index, vectors, probes=min(config.probes, lists), candidates=getattr(config, "rescore", 1))

    @classmethod
    def prepare(cls, config: Any, vectors: Vectors, folder: str | Path) -> bool:
        """Build the index into the folder of its vectors, whole or not at all; False where it is there already."""
        faiss = load_faiss()

        path = cls.path(config, vectors, folder)
        if path.is_file():
            return False
        index, part = cls.build(config, vectors), part_of(path)
        try:
            faiss.write_index(index, str(part))
            os.replace(part, path)
        except (RuntimeError, OSError) as error:
            part.unlink(missing_ok=True)
            raise DataError(
                f"the index {path} cannot be written ({first_line(error)}); make room, or choose another folder"
            ) from error
        return True

    @classmethod
    def path(cls, config: Any, vectors: Vectors, folder: str | Path) -> Path:
        """Where the index lies: named after the settings that decide what it is."""
        settings = {name: value for name, value in asdict(config).items() if name not in SEARCHES}
        key = json.dumps([cls.name, settings, len(vectors), vectors.width, str(vectors.dtype)])
        return Path(folder) / f"{cls.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.faiss"

    @classmethod
    def build(cls, config: Any, vectors: Vectors) -> Any:
        """A faiss index of the vectors, its lists learned by k-means from a sample of them drawn with a fixed seed."""
        faiss = load_faiss()

        lists = _lists(config.lists, len(vectors))
        index = faiss.index_factory(
            vectors.width,
            f"IVF{lists},{cls.code(config, vectors)}",
            faiss.METRIC_INNER_PRODUCT,
        )
        if isinstance(index, faiss.IndexIVFScalarQuantizer):
            index.by_residual = (
                False  # what is left of a vector would be rounded anew; a stored float16 vector is not
            )
        index.cp.max_points_per_centroid = SAMPLE
        index.cp.min_points_per_centroid = 1
        index.cp.spherical = True
        size = min(len(vectors), max(SAMPLE * lists, SAMPLE << CODE_BITS))
        chosen = np.sort(np.random.default_rng(0).choice(len(vectors), size, replace=False))
        index.train(vectors.take(chosen))
        for start in range(0, len(vectors), BLOCK):
            index.add(vectors.block(start, start + BLOCK))
        return index

    @staticmethod
    @abstractmethod
    def code(config: Any, vectors: Vectors) -> str:
        """How faiss calls the way that vectors are stored in."""

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.vectors.width

    def search(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactIndex.search`, of the documents that faiss finds."""
        faiss = load_faiss()

        queries = checked_queries(vectors, self.width)
        size = len(self) if allowed is None else int(allowed.sum())
        wanted = min(k, size)
        if not len(queries) or not wanted or (allowed is not None and size <= SMALL_POOL):
            return self._exact_of_pool(queries, k, allowed)
        selector = None
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)
        settings = faiss.SearchParametersIVF(nprobe=self.probes, sel=selector)
        _, candidates = self.index.search(queries, min(self.candidates * wanted, size), params=settings)
        scores, docs = rescored(self.vectors, queries, candidates, k)
        short = np.flatnonzero(docs[:, wanted - 1] < 0)
        if len(short):
            scores[short], docs[short] = self._exact_of_pool(queries[short], k, allowed)
        return scores, docs

    def _exact_of_pool(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Exact search; a small pool's vectors are gathered, so that the others are not read."""
        if allowed is None or allowed.sum() > SMALL_POOL:
            return self._exact.search(queries, k, allowed)
        numbers = np.flatnonzero(allowed)
        scores, places = ExactIndex(self.vectors.take(numbers)).search(queries, k)
        return scores, np.where(places < 0, -1, numbers[places] if len(numbers) else places)


class IVFIndex(_FaissIndex):
    """Inverted lists: a query looks at the float16 vectors of the `probes` lists next to it. Memory: 2 * width bytes a document."""

    name = "ivf"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How many `lists` (default: twice the root of the number of documents), and how many of them a query looks into."""

        lists: Positive | None = None
        probes: Positive = 32

    @staticmethod
    def code(config: Config, vectors: Vectors) -> str:
        return "SQfp16"


class PQIndex(_FaissIndex):
    """Product codes, all looked at unless they stand in `lists`; `rescore` candidates for each wanted document are scored from
    their vectors. Memory: 4 bits for each `group` of numbers and 8 bytes a document; the vectors themselves stay on the disk."""

    name = "pq"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`lists` and `probes` as for ivf (one list: every code is looked at); one 4-bit code for each `group` numbers of a
        vector; `rescore` candidates for each document wanted."""

        lists: Positive = 1
        probes: Positive = 32
        group: Positive = 4
        rescore: Positive = 10

    @staticmethod
    def code(config: Config, vectors: Vectors) -> str:
        if vectors.width % config.group:
            raise DataError(
                f"vectors of {vectors.width} numbers do not fall into groups of {config.group}; set index.group to a divisor"
            )
        return f"PQ{vectors.width // config.group}x{CODE_BITS}fs"


def _lists(lists: int | None, n: int) -> int:
    """The number of inverted lists for n documents; DataError for more than k-means can learn of them."""
    most = max(1, n // LEAST_SAMPLE)
    if lists is not None and lists > most:
        raise DataError(
            f"index.lists is {lists}, and {n} documents allow for {most} ({LEAST_SAMPLE} a list); lower it"
        )
    if n < 1 << CODE_BITS:
        raise DataError(
            f"{n} documents are too few for approximate search, which needs {1 << CODE_BITS}; use index: exact"
        )
    return min(round(2 * n**0.5), most) if lists is None else lists
