"""A folder of document vectors: float16, memory-mapped, with the encoder and the corpus that they belong to.

Written in blocks, so that an interrupted embedding goes on where it stopped. `vectors.npy` float16[n, width] and `manifest.json`;
while unfinished both lie in FOLDER.part.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.files import write_atomically

VECTORS, MANIFEST = "vectors.npy", "manifest.json"
FORMAT = 1
DESCRIPTIONS = {
    "encoder": "another encoder",
    "corpus": "another corpus",
    "shape": "another number or width of vectors",
}
"""What differs, where these entries of two manifests do."""


def vector_plan(encoder: str, corpus: str, documents: int, width: int) -> dict[str, Any]:
    """What vectors are made of: fingerprints of encoder and corpus, and how many of which width."""
    return {"format": FORMAT, "encoder": encoder, "corpus": corpus, "shape": [documents, width]}


def open_vectors(folder: str | Path, plan: dict[str, Any], remedy: str) -> np.ndarray:
    """The vectors of a finished folder, float16[n, width], memory-mapped.

    Raises DataError, ending in `remedy`, when there are none, they cannot be read, or they were made by another plan.
    """
    folder = Path(folder)
    manifest = _read(folder / MANIFEST)
    if manifest is None:
        state = "are not finished" if _part(folder).exists() else "are not there"
        raise DataError(f"the vectors {folder} {state}; {remedy}")
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"the vectors {folder} have the format {manifest.get('format')!r}, this version reads {FORMAT}; {remedy}"
        )
    if other := _differences(manifest, plan):
        raise DataError(f"the vectors {folder} were made with {other}; {remedy}")
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"the vectors {folder} cannot be read ({error}); {remedy}") from error
    if list(vectors.shape) != plan["shape"] or vectors.dtype != np.float16:
        raise DataError(
            f"the vectors {folder} are damaged: they are {vectors.dtype}{list(vectors.shape)}; {remedy}"
        )
    return vectors


class VectorWriter:
    """Writes vectors block by block; the `done` vectors of an interrupted writing by the same plan are kept."""

    def __init__(self, folder: str | Path, plan: dict[str, Any]) -> None:
        """Raises DataError when another plan's vectors are there, finished or not, or the place cannot be written."""
        self.folder, self.plan = Path(folder), plan
        self.part = _part(self.folder)
        for place in (self.folder, self.part):
            if place.exists() and (other := _differences(_read(place / MANIFEST) or {}, plan)):
                raise DataError(
                    f"{place} holds vectors made with {other}; delete it, or choose another folder for the new ones"
                )
        self.finished = (self.folder / MANIFEST).exists()
        if not self.finished and self.folder.is_dir() and any(self.folder.iterdir()):
            raise DataError(f"{folder} holds other files; choose another folder for the vectors")
        self.done = plan["shape"][0] if self.finished else 0
        if self.finished:
            return
        kept = _read(self.part / MANIFEST)
        try:
            self.part.mkdir(parents=True, exist_ok=True)
            self._vectors = np.lib.format.open_memmap(
                self.part / VECTORS,
                mode="w+" if kept is None else "r+",
                dtype=np.float16,
                shape=tuple(plan["shape"]) if kept is None else None,
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"the vectors {folder} cannot be written ({error}); delete {self.part}, or choose another folder"
            ) from error
        self.done = 0 if kept is None else kept["done"]

    def add(self, vectors: np.ndarray) -> None:
        """The next vectors, float[m, width]; they are safe on the disk afterwards. DataError for a number that float16 cannot
        hold."""
        stored = as_stored(vectors)
        self._vectors[self.done : self.done + len(stored)] = stored
        self._vectors.flush()
        self.done += len(stored)
        write_atomically(self.part / MANIFEST, json.dumps(self.plan | {"done": self.done}) + "\n")

    def finish(self) -> None:
        """Give the folder its name."""
        if self.finished:
            return
        if self.done != self.plan["shape"][0]:
            raise DataError(
                f"the vectors {self.folder} are {self.done} of {self.plan['shape'][0]}; add the rest"
            )
        del self._vectors
        write_atomically(self.part / MANIFEST, json.dumps(self.plan) + "\n")
        os.replace(self.part, self.folder)
        self.finished = True


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Vectors as a folder keeps them: float16. DataError for numbers that are not finite there."""
    with np.errstate(over="ignore"):
        stored = vectors.astype(np.float16)
    if not np.isfinite(stored).all():
        raise DataError(
            f"a document vector holds a number that float16 cannot ({np.finfo(np.float16).max:g} is its largest); check the "
            "encoder's weights"
        )
    return stored


def _part(folder: Path) -> Path:
    return folder.with_name(folder.name + ".part")


def _differences(manifest: dict[str, Any], plan: dict[str, Any]) -> str:
    return " and ".join(
        what for key, what in DESCRIPTIONS.items() if manifest.get(key, plan[key]) != plan[key]
    )


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a json file; None where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
