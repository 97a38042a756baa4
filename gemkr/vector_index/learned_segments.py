"""A learned index over the vectors or token vectors of a collection, kept beside them: of the documents that were there when it was built.

It stays good while the collection changes: deleted documents are passed over, those of segments that are gone or new are searched
exactly, until `gemkr embed` builds it anew.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.files import clear_parts, delete_folder, write_atomically
from gemkr.vector_index.exact import best_of
from gemkr.vector_index.held_segments import Held
from gemkr.vector_index.segment_store import LEARNED, name_of

BUILT = "built.npz"


class PartlyLearnedIndex:
    """A `VectorIndex` or `TokenVectorIndex` over the live documents: a learned one over some of them, and exact search of the rest."""

    def __init__(self, exact: Any, learned: Any, numbers: np.ndarray) -> None:
        """`exact` searches all; `learned` may be None; `numbers` int64[rows]: the document of each of its rows, -1 for one that is
        not alive."""
        self.learned, self._exact, self._numbers = learned, exact, numbers
        self._rest = np.ones(len(exact), bool)
        self._rest[numbers[numbers >= 0]] = False

    def __len__(self) -> int:
        return len(self._exact)

    @property
    def searched_exactly(self) -> int:
        """How many documents the learned index does not hold."""
        return int(self._rest.sum())

    def search(
        self, vectors: Any, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As exact search; of the documents of the learned index those that it finds."""
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


def build_learned(kind: Any, config: Any, folder: str | Path, held: Held[Any]) -> bool:
    """Build an index of the class `kind` over the live documents, whole or not at all; False where it is there already. Indexes of
    other generations are deleted."""
    folder = Path(folder)
    none = np.zeros(0, np.int64)
    left_out = [none if held.indexes_deleted else gone for _, gone in held.parts]
    places = [np.stack([np.full(len(gone), at), gone]) for at, gone in enumerate(left_out)]
    facts = {
        "names": np.array([name_of(segment) for segment, _ in held.parts], dtype="U16"),
        "documents": np.array([len(segment.texts) for segment, _ in held.parts], np.int64),
        "gone": np.concatenate([np.zeros((2, 0), np.int64), *places], axis=1),
        "made_with": np.array(held.made_with),
    }
    stream = io.BytesIO()
    np.savez(stream, **facts)
    digest = hashlib.sha256(b"".join(facts[name].tobytes() for name in sorted(facts))).hexdigest()
    place = folder / f"{digest[:16]}{LEARNED}"
    place.mkdir(exist_ok=True)
    write_atomically(place / BUILT, stream.getvalue())
    built = kind.prepare(config, held.joined(list(zip(held.stored, left_out, strict=True))), place)
    clear_parts(place)
    for other in folder.glob(f"*{LEARNED}"):
        if other != place:
            delete_folder(other, first=BUILT)
    return built


def held_index(kind: Any, config: Any, folder: str | Path, held: Held[Any]) -> Any:
    """The index of a `kind` over a generation: as `open_learned` for one that is learned, else exact over its live documents."""
    return (
        open_learned(kind, config, folder, held)
        if hasattr(kind, "prepare")
        else kind.from_config(config, held.live)
    )


def open_learned(kind: Any, config: Any, folder: str | Path, held: Held[Any]) -> PartlyLearnedIndex:
    """The index that `build_learned` wrote last, over the generation that there is now; exact search where there is none, or one of
    another encoder. DataError where it is damaged."""
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
        if facts["made_with"].tolist() != list(held.made_with):
            continue
        rows, numbers = _rows(facts, held)
        if kind.path(config, rows, place).exists():
            return PartlyLearnedIndex(held.exact(), kind.from_config(config, rows, place), numbers)
    return PartlyLearnedIndex(held.exact(), None, np.zeros(0, np.int64))


def _rows(facts: Mapping[str, np.ndarray], held: Held[Any]) -> tuple[Any, np.ndarray]:
    """What is kept of an index's rows, nothing for those of segments that are gone, and the document of each, or -1."""
    live = [len(segment.texts) - len(gone) for segment, gone in held.parts]
    firsts = np.cumsum([0, *live])
    there = {name_of(segment): at for at, (segment, _) in enumerate(held.parts)}
    rows, numbers = [], [np.zeros(0, np.int64)]
    for at, (name, size) in enumerate(zip(facts["names"].tolist(), facts["documents"].tolist(), strict=True)):
        gone = facts["gone"][1, facts["gone"][0] == at]
        now = np.full(size, -1, np.int64)
        own = there.get(name)
        if own is not None:
            alive = np.delete(np.arange(size), held.parts[own][1])
            now[alive] = firsts[own] + np.arange(len(alive))
        rows.append((held.blank(size) if own is None else held.stored[own], gone))
        numbers.append(np.delete(now, gone))
    return held.joined(rows), np.concatenate(numbers)
