"""A learned index over the vectors of a collection, kept beside them: of the documents that were there when it was built.

It stays good while the collection changes: deleted documents are passed over, those of segments that are gone or new are searched
exactly, until `gemkr embed` builds it anew.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.files import write_atomically
from gemkr.interfaces import VectorIndex
from gemkr.vector_index.exact import ExactIndex, best_of
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.segment_store import LEARNED, Parts, name_of
from gemkr.vector_index.vectors import DTYPES, Vectors

BUILT = "built.npz"


@dataclass(frozen=True)
class SegmentVectors:
    """The vectors of a collection's generation: of every segment, with the encoder and dtype that they are of."""

    parts: Parts
    stored: list[Vectors]
    encoder: str
    dtype: str
    width: int

    @property
    def live(self) -> LiveVectors:
        """Those of the live documents."""
        gone = [gone for _, gone in self.parts]
        return LiveVectors(list(zip(self.stored, gone, strict=True)), self.width)


class PartlyLearnedIndex:
    """A `VectorIndex` over the live documents: a learned one over some of them, and exact search of the rest."""

    def __init__(self, live: LiveVectors, learned: VectorIndex | None, numbers: np.ndarray) -> None:
        """`numbers` int64[rows]: the document of each row of the learned index, -1 for one that is not alive."""
        self.learned, self._numbers = learned, numbers
        self._exact = ExactIndex(live)
        self._rest = np.ones(len(live), bool)
        self._rest[numbers[numbers >= 0]] = False

    def __len__(self) -> int:
        return len(self._exact)

    @property
    def searched_exactly(self) -> int:
        """How many documents the learned index does not hold."""
        return int(self._rest.sum())

    def search(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactIndex.search`; of the documents of the learned index those that it finds."""
        rest = self._rest if allowed is None else self._rest & allowed
        scores, docs = self._exact.search(vectors, k, None if rest.all() else rest)
        held = self._numbers >= 0
        if allowed is not None:
            held[held] = allowed[self._numbers[held]]
        if self.learned is None or not held.any():
            return scores, docs
        more, rows = self.learned.search(vectors, k, None if held.all() else held)
        found = np.where(rows < 0, -1, self._numbers[rows])
        return best_of(np.hstack([scores, more]), np.hstack([docs, found]), k)


def build_learned(kind: Any, config: Any, folder: str | Path, vectors: SegmentVectors) -> bool:
    """Build an index of the class `kind` over the live documents, whole or not at all; False where it is there already. Indexes of
    other generations are deleted."""
    folder = Path(folder)
    names = [name_of(segment) for segment, _ in vectors.parts]
    places = np.concatenate(
        [np.zeros((2, 0), np.int64)]
        + [np.stack([np.full(len(gone), at), gone]) for at, (_, gone) in enumerate(vectors.parts)],
        axis=1,
    )
    facts = {
        "names": np.array(names, dtype="U16"),
        "documents": np.array([len(each) for each in vectors.stored], np.int64),
        "gone": places,
        "made_with": np.array([vectors.encoder, vectors.dtype]),
    }
    stream = io.BytesIO()
    np.savez(stream, **facts)
    digest = hashlib.sha256(b"".join(facts[name].tobytes() for name in sorted(facts))).hexdigest()
    place = folder / f"{digest[:16]}{LEARNED}"
    place.mkdir(exist_ok=True)
    write_atomically(place / BUILT, stream.getvalue())
    built = kind.prepare(config, vectors.live, place)
    for other in folder.glob(f"*{LEARNED}"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    return built


def open_learned(kind: Any, config: Any, folder: str | Path, vectors: SegmentVectors) -> PartlyLearnedIndex:
    """The index that `build_learned` wrote last, over the generation that there is now; exact search where there is none, or one of
    another encoder. DataError where it is damaged."""
    live = vectors.live
    for place in sorted(Path(folder).glob(f"*{LEARNED}")):
        if not (place / BUILT).is_file():
            continue
        try:
            with np.load(place / BUILT, allow_pickle=False) as built:
                facts = {name: built[name] for name in ("names", "documents", "gone", "made_with")}
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"the index {place} cannot be read ({error}); delete it and make it with gemkr embed CONFIG NAME"
            ) from error
        if facts["made_with"].tolist() != [vectors.encoder, vectors.dtype]:
            continue
        rows, numbers = _rows(facts, vectors)
        if kind.path(config, rows, place).is_file():
            return PartlyLearnedIndex(live, kind.from_config(config, rows, place), numbers)
    return PartlyLearnedIndex(live, None, np.zeros(0, np.int64))


def _rows(facts: Mapping[str, np.ndarray], vectors: SegmentVectors) -> tuple[LiveVectors, np.ndarray]:
    """The vectors of an index's rows, zeros for those of segments that are gone, and the document of each, or -1."""
    firsts = np.cumsum(
        [0, *(len(v) - len(gone) for v, (_, gone) in zip(vectors.stored, vectors.parts, strict=True))]
    )
    there = {name_of(segment): at for at, (segment, _) in enumerate(vectors.parts)}
    rows: list[tuple[Vectors, np.ndarray]] = []
    numbers = [np.zeros(0, np.int64)]
    for at, (name, size) in enumerate(zip(facts["names"].tolist(), facts["documents"].tolist(), strict=True)):
        gone = facts["gone"][1, facts["gone"][0] == at]
        now = np.full(size, -1, np.int64)
        own = there.get(name)
        if own is None:
            blank = np.broadcast_to(np.zeros(1, DTYPES[vectors.dtype]), (size, vectors.width))
            rows.append((Vectors(blank), gone))
        else:
            alive = np.delete(np.arange(size), vectors.parts[own][1])
            now[alive] = firsts[own] + np.arange(len(alive))
            rows.append((vectors.stored[own], gone))
        numbers.append(np.delete(now, gone))
    return LiveVectors(rows, vectors.width), np.concatenate(numbers)
