"""Vectors and token vectors of a sharded collection, searched where the shards are: the side that asks.

A search is one message to each shard that holds an allowed document: the queries go out, the best of the shard come back. Exact search finds
what one index over all would. A learned index gives each shard's own best candidates: of `ivf` and `pq` those of one process are among
them; `centroid` goes on in each shard until none of its documents is likely to be missed. Nothing of the vectors is opened here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gemkr.errors import ShardError
from gemkr.interfaces import TokenVectors
from gemkr.vector_index import exact, maxsim
from gemkr.vector_index.segment_folder import MadeBy
from gemkr.vector_index.segment_store import Parts, written
from gemkr.vector_index.segment_tokens import TokenKind
from gemkr.vector_index.segment_vectors import VectorKind
from gemkr.vector_index.shard_search import Opening

if TYPE_CHECKING:
    from gemkr.collection.shards import ShardedIndex


class _Sharded:
    """Documents are numbered shard by shard. `empty` int64[m]: those of which nothing is kept, and which are never found."""

    def __init__(
        self,
        shards: ShardedIndex,
        folder: str | Path,
        parts: Parts,
        kind: VectorKind | TokenKind,
        index: type,
        settings: Any,
        remedy: str,
    ) -> None:
        """What `folder` keeps of a generation, of the segments `parts` shard by shard, searched in each shard by an `index` of these
        settings. What is missing is made here as by `follow`, with its errors; ShardError where a shard is gone."""
        self._shards, self.width = shards, kind.encoder.width
        known = replace(kind, encoder=MadeBy(kind.fingerprint, self.width))
        opening = Opening(Path(folder).absolute(), known, index, settings, remedy)
        with written(folder, parts, kind, remedy):
            self._number, found = shards.attach(opening)
        none = np.zeros(0, np.int64)
        self.empty = np.concatenate([none, *(own + shards.starts[s] for s, own in found.items())])

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def searched(self) -> float:
        """The share of all documents that answers come from."""
        return self._shards.searched

    @property
    def lost(self) -> list[str]:
        """Names of shards that are gone."""
        return self._shards.lost

    def _best(
        self, queries: Any, count: int, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        starts = self._shards.starts.tolist()

        def asked(s: int) -> tuple | None:
            own = None if allowed is None else allowed[starts[s] : starts[s + 1]]
            most = min(k, starts[s + 1] - starts[s] if own is None else int(own.sum()))
            return (queries, most, None if own is None or own.all() else np.packbits(own)) if most else None

        scores, docs = [np.full((count, k), -np.inf, np.float32)], [np.full((count, k), -1)]
        for s, (best, numbers) in self._shards.ask_attached(self._number, "search", asked).items():
            scores.append(best)
            docs.append(np.where(numbers < 0, -1, numbers + starts[s]))
        return exact.best_of(np.hstack(scores), np.hstack(docs), k)


class ShardedVectors(_Sharded):
    """A `VectorIndex` over shards."""

    def search(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactIndex.search`; ShardError where a shard is gone and partial answers are not wanted, or none is left."""
        queries = exact.checked_queries(vectors, self.width)
        return self._best(queries, len(queries), k, allowed)

    def products(self, numbers: np.ndarray, vector: np.ndarray) -> np.ndarray:
        """float32[m]: inner products of the vectors of documents int64[m] with one float32[width]. ShardError where a shard that holds
        one of them is gone, whether partial answers are wanted or not."""
        homes = np.searchsorted(self._shards.starts, numbers, side="right") - 1
        places = {s: np.flatnonzero(homes == s) for s in np.unique(homes).tolist()}

        def asked(s: int) -> tuple | None:
            return (numbers[places[s]] - self._shards.starts[s], vector) if s in places else None

        found = self._shards.ask_attached(self._number, "products", asked)
        if len(found) < len(places):
            raise ShardError(
                f"documents of shards that are lost ({', '.join(self.lost)}) cannot be scored; start them again"
            )
        out = np.empty(len(numbers), np.float32)
        for s, scores in found.items():
            out[places[s]] = scores
        return out


class ShardedTokens(_Sharded):
    """A `TokenVectorIndex` over shards."""

    def search(
        self, queries: TokenVectors, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactTokenIndex.search`; ShardError as of `ShardedVectors.search`."""
        queries = maxsim.checked_queries(queries, self.width)
        return self._best(queries, len(queries.offsets) - 1, k, allowed)
