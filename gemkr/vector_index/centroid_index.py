"""Late interaction over many documents: candidates from the centroids next to *every* query vector, scored in steps that cost more
and see more (after PLAID, and WARP's way of counting what a vector did not find).

A query vector looks into the `probes` lists next to it, less those far below its best; a document gains what its best centroid there
scores above the vector's last list. Then the best candidates are scored by the centroids of all their tokens, the best of these by
decoded tokens, and the best of these, where vectors are at hand, by the vectors themselves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.config.ranges import Positive, Share
from gemkr.errors import ConfigError, DataError
from gemkr.files import part_of, write_atomically
from gemkr.interfaces import TokenVectors
from gemkr.vector_index import _maxsim
from gemkr.vector_index.exact import best_of
from gemkr.vector_index.maxsim import checked_queries, spread
from gemkr.vector_index.token_codec import BITS, MOST_CENTROIDS, ResidualCodec
from gemkr.vector_index.token_parts import Part

MANIFEST = "index.json"
FORMAT = "centroids 1"
SAMPLE = 16
"""Tokens for each centroid that k-means learns from."""
LEAST_SAMPLE = 8
SEARCHES = frozenset({"probes", "prune", "candidates", "decoded", "rescored"})
"""Settings that change how an index is searched, not what it is."""


class CentroidIndex:
    """A `TokenVectorIndex` of coded tokens. Documents are numbered as they were added; deleted ones keep their numbers and are never
    found. A query that finds fewer documents than are wanted and there is scored against every document's decoded tokens."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Residual codes of `bits` (2, 4, 8) a number; `lists` centroids (default: 16 times the root of the number of tokens, to a
        power of two). A query vector looks into `probes` lists, without those that score less than `prune` of its best. Of the documents
        there `candidates` are scored by centroids, `decoded` of them by decoded tokens, `rescored` of these by the vectors themselves
        (at least twice the documents wanted; 0: the decoded score is the last word)."""

        bits: Positive = 4
        lists: Positive | None = None
        probes: Positive = 16
        prune: Share = 0.4
        candidates: Positive = 8192
        decoded: Positive = 1024
        rescored: int = 256

        def __post_init__(self) -> None:
            if self.bits not in BITS:
                raise ConfigError(f"index.bits is {self.bits}; use {', '.join(map(str, BITS))}")
            if self.rescored < 0:
                raise ConfigError(f"index.rescored is {self.rescored}; use 0 or more")

    def __init__(
        self,
        config: Config,
        codec: ResidualCodec,
        parts: Sequence[Part],
        deleted: np.ndarray | None = None,
    ) -> None:
        """`deleted` bool[n] marks documents that are no longer found."""
        self.config, self.codec, self.parts = config, codec, list(parts)
        n = sum(map(len, self.parts))
        self._deleted = np.zeros(n, bool) if deleted is None else deleted
        self._note()

    def _note(self) -> None:
        lengths = [np.diff(part.offsets) for part in self.parts]
        full = np.concatenate(lengths) > 0 if lengths else np.zeros(0, bool)
        self._findable = full & ~self._deleted
        self._starts = np.cumsum([0, *map(len, self.parts)])

    @classmethod
    def build(cls, config: Config, tokens: TokenVectors, *, progress: bool = False) -> CentroidIndex:
        """Learn centroids and levels from a sample of the tokens, drawn with a fixed seed, and encode all. DataError for too few."""
        n = len(tokens.values)
        lists = _list_count(config.lists, n)
        size = min(n, SAMPLE * lists)
        chosen = np.sort(np.random.default_rng(0).choice(n, size, replace=False))
        codec = ResidualCodec.learned(tokens.values[chosen].astype(np.float32), lists, config.bits)
        return cls(config, codec, [Part.of(tokens, codec, progress=progress)])

    @classmethod
    def from_config(
        cls, config: Config, tokens: TokenVectors, folder: str | Path | None = None
    ) -> CentroidIndex:
        """Over tokens in memory, built now; over those of a folder, the index that `prepare` wrote there. DataError where it is missing
        or damaged."""
        if folder is None:
            return cls.build(config, tokens)
        path = cls.path(config, tokens, folder)
        if not (path / MANIFEST).is_file():
            raise DataError(
                f"the token vectors {folder} have no centroid index of these settings; make it with gemkr embed CONFIG NAME"
            )
        return cls.open(path, config, tokens)

    @classmethod
    def prepare(cls, config: Config, tokens: TokenVectors, folder: str | Path) -> bool:
        """Build the index into the folder of its tokens, whole or not at all; False where it is there already."""
        path = cls.path(config, tokens, folder)
        if (path / MANIFEST).is_file():
            return False
        cls.build(config, tokens, progress=True).save(path)
        return True

    @classmethod
    def path(cls, config: Config, tokens: TokenVectors, folder: str | Path) -> Path:
        """Where the index lies: named after the settings that decide what it is."""
        settings = {name: value for name, value in asdict(config).items() if name not in SEARCHES}
        key = json.dumps([FORMAT, settings, len(tokens.offsets), tokens.values.shape])
        return Path(folder) / f"centroid-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def __len__(self) -> int:
        return len(self._deleted)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.codec.centroids.shape[1]

    @property
    def bytes_per_token(self) -> float:
        """Of the whole index, without vectors that are kept beside it."""
        codec = sum(getattr(self.codec, name).nbytes for name in ("centroids", "scales", "levels"))
        tokens = sum(len(part.codes) for part in self.parts)
        return (codec + sum(part.bytes for part in self.parts)) / max(tokens, 1)

    def add(self, tokens: TokenVectors) -> np.ndarray:
        """Add documents, coded by the centroids that are there; their numbers int64[n]. They go to the disk with `save`."""
        if tokens.values.ndim != 2 or tokens.values.shape[1] != self.width:
            raise DataError(
                f"the new documents' vectors have the shape {tokens.values.shape}, the index holds vectors of {self.width} numbers; use "
                "its encoder"
            )
        tokens = TokenVectors(tokens.values.astype(np.float16, copy=False), tokens.offsets)
        first = len(self)
        self.parts.append(Part.of(tokens, self.codec))
        self._deleted = np.concatenate([self._deleted, np.zeros(len(tokens.offsets) - 1, bool)])
        self._note()
        return np.arange(first, len(self))

    def delete(self, numbers: np.ndarray) -> None:
        """Find these documents (int64[m]) no more; DataError for a number that is not there."""
        numbers = np.asarray(numbers, np.int64)
        bad = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(bad):
            raise DataError(
                f"there is no document {bad[0]} among the {len(self)} of the index; delete another"
            )
        self._deleted[numbers] = True
        self._note()

    def search(
        self, queries: TokenVectors, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactTokenIndex.search`, of the documents that are found; queries are spread over threads."""
        queries = checked_queries(queries, self.width)
        mask = self._findable if allowed is None else self._findable & allowed
        each = [queries.values[start:stop] for start, stop in pairwise(queries.offsets)]
        size = int(mask.sum())
        rows = spread(lambda vectors: self._row(vectors, k, mask, size), each)
        scores = np.array([row[0] for row in rows], np.float32).reshape(len(each), k)
        docs = np.array([row[1] for row in rows], np.int64).reshape(len(each), k)
        return scores, docs

    def _row(self, vectors: np.ndarray, k: int, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        docs, scores = self._found(vectors, k, mask)
        if len(docs) < min(k, size):
            docs = np.flatnonzero(mask)
            scores = self._stepwise(vectors, docs, last=True)
        width = max(k, len(docs))
        all_scores, all_docs = np.full((1, width), -np.inf, np.float32), np.full((1, width), -1, np.int64)
        order = np.argsort(docs)
        all_scores[0, : len(docs)], all_docs[0, : len(docs)] = scores[order], docs[order]
        best = best_of(all_scores, all_docs, k)
        return best[0][0], best[1][0]

    def _found(self, vectors: np.ndarray, k: int, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Documents and their last scores."""
        lanes = -(-len(vectors) // 16) * 16
        padded = np.zeros((lanes, self.width), np.float32)
        padded[: len(vectors)] = vectors
        products = self.codec.centroids @ padded.T
        probes, gains = self._probes(np.ascontiguousarray(products[:, : len(vectors)].T))
        docs, scores = self._each(
            lambda part, own: _maxsim.candidates(
                part.list_offsets, part.list_docs, probes, gains, len(part), own.view(np.uint8)
            ),
            self._split(mask),
        )
        docs = _best(docs, scores, max(self.config.candidates, k))
        scores = self._by_centroid(products, len(vectors), docs)
        docs = _best(docs, scores, max(self.config.decoded, k))
        scores = self._stepwise(vectors, docs)
        if not self.config.rescored or any(part.stored is None for part in self.parts):
            return docs, scores
        docs = _best(docs, scores, max(self.config.rescored, 2 * k))
        return docs, self._stepwise(vectors, docs, exact=True)

    def _probes(self, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centroids int64[vectors, p], best first, -1 where pruned, and what each scores above the vector's last one."""
        p = min(self.config.probes, products.shape[1])
        chosen = np.argpartition(products, products.shape[1] - p, axis=1)[:, -p:]
        scores = np.take_along_axis(products, chosen, axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")
        chosen, scores = (np.take_along_axis(part, order, axis=1) for part in (chosen, scores))
        gains = scores - scores[:, -1:]
        kept = (scores >= self.config.prune * scores[:, :1]) | (np.arange(p) == 0)
        return np.where(kept, chosen, -1), np.ascontiguousarray(gains, np.float32)

    def _split(self, mask: np.ndarray) -> list[np.ndarray]:
        return [mask[start:stop] for start, stop in pairwise(self._starts)]

    def _each(self, work: Any, masks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        docs, scores = [], []
        for part, start, mask in zip(self.parts, self._starts[:-1], masks, strict=True):
            found, own = work(part, np.ascontiguousarray(mask))
            docs.append(found + start)
            scores.append(own)
        return np.concatenate(docs), np.concatenate(scores)

    def _by_part(self, docs: np.ndarray, work: Any) -> np.ndarray:
        """float32[m]: `work(part, numbers in it)` of the documents int64[m]."""
        scores = np.empty(len(docs), np.float32)
        homes = np.searchsorted(self._starts, docs, side="right") - 1
        for number, part in enumerate(self.parts):
            own = np.flatnonzero(homes == number)
            if len(own):
                scores[own] = work(part, np.ascontiguousarray(docs[own] - self._starts[number]))
        return scores

    def _by_centroid(self, products: np.ndarray, vectors: int, docs: np.ndarray) -> np.ndarray:
        return self._by_part(
            docs, lambda part, own: _maxsim.by_centroid(products, vectors, part.codes, part.offsets, own)
        )

    def _stepwise(
        self, vectors: np.ndarray, docs: np.ndarray, *, exact: bool = False, last: bool = False
    ) -> np.ndarray:
        """float32[m]: MaxSim by decoded tokens, or, where `exact` (with `last`: where they are at hand), by the vectors."""
        bounds = np.array([0, len(vectors)])
        codec = self.codec

        def work(part: Part, own: np.ndarray) -> np.ndarray:
            if part.stored is not None and (exact or (last and self.config.rescored)):
                bits = part.stored.values.view(np.uint16)
                return _maxsim.stored(bits, part.offsets, own, vectors, bounds)[0]
            return _maxsim.coded(
                part.codes, part.residuals, codec.centroids, codec.table, codec.scales, codec.unit, part.offsets, own, vectors,
                bounds,
            )[0]  # fmt: skip

        return self._by_part(docs, work)

    def save(self, folder: str | Path) -> None:
        """Write the index, whole or not at all, in the place of an earlier state of it; vectors of documents that were added later are
        kept with it. DataError where it cannot be written."""
        folder = Path(folder)
        part = part_of(folder)
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            self.codec.save(part)
            for number, own in enumerate(self.parts):
                own.save(part / f"part-{number:04d}", values=number > 0)
            np.save(part / "deleted.npy", self._deleted)
            record = {"format": FORMAT, "parts": len(self.parts), "unit": self.codec.unit}
            write_atomically(part / MANIFEST, json.dumps(record) + "\n")
            old = folder.with_name(f".{folder.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                os.replace(folder, old)
            os.replace(part, folder)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise DataError(
                f"the index {folder} cannot be written ({error.strerror}); make room, or choose another folder"
            ) from error

    @classmethod
    def open(
        cls, folder: str | Path, config: Config | None = None, tokens: TokenVectors | None = None
    ) -> CentroidIndex:
        """Read what `save` wrote, memory-mapped; `tokens` are the vectors of the documents that it was built of."""
        folder = Path(folder)
        try:
            record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise DataError(
                    f"the index {folder} has the format {record['format']!r}, this version reads {FORMAT!r}; make it anew"
                )
            codec = ResidualCodec.open(folder, unit=record["unit"])
            parts = [Part.open(folder / f"part-{number:04d}") for number in range(record["parts"])]
            deleted = np.load(folder / "deleted.npy", allow_pickle=False)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"the index {folder} cannot be read ({error}); delete it and make it with gemkr embed CONFIG NAME"
            ) from error
        if tokens is not None and parts:
            if not np.array_equal(tokens.offsets, parts[0].offsets):
                raise DataError(f"the index {folder} is of other token vectors; delete it and make it anew")
            parts[0] = replace(parts[0], stored=tokens)
        return cls(config or cls.Config(bits=codec.bits), codec, parts, deleted)


def _best(docs: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    """The documents with the `most` best scores, in no order."""
    if len(docs) <= most:
        return docs
    return docs[np.argpartition(scores, len(scores) - most)[-most:]]


def _list_count(lists: int | None, tokens: int) -> int:
    """The number of centroids for so many tokens; DataError for more than can be learned or named."""
    most = min(MOST_CENTROIDS, tokens // LEAST_SAMPLE)
    if most < 1:
        raise DataError(f"{tokens} tokens are too few for a centroid index; use index: exact")
    if lists is not None and lists > most:
        raise DataError(
            f"index.lists is {lists}, and {tokens} tokens allow for {most} ({LEAST_SAMPLE} a list); lower it"
        )
    return min(1 << int(np.log2(16 * tokens**0.5)), most) if lists is None else lists
