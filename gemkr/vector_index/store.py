"""A folder of document vectors, memory-mapped, with the encoder and the corpus that they belong to.

Written in blocks, so that an interrupted embedding goes on where it stopped. `vectors.npy` float32, float16 or int8[n, width],
for int8 `scales.npy` float32[n] beside it, and `manifest.json`; while unfinished they lie in FOLDER.part.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.errors import DataError
from gemkr.files import clear_parts, write_atomically
from gemkr.vector_index.manifest import MANIFEST, differences, part_folder, read_manifest
from gemkr.vector_index.vectors import DTYPES, Vectors, as_stored

VECTORS, SCALES = "vectors.npy", "scales.npy"
FORMAT = 2
FIRST = {"format": 1, "dtype": "float16"}
"""The first format, and what its manifests did not say."""
DESCRIPTIONS = {
    "encoder": "another encoder, or with its texts read otherwise",
    "corpus": "another corpus",
    "shape": "another number or width of vectors ({there}, not {here})",
    "dtype": "another dtype ({there}, not {here})",
}
"""What differs, where these entries of two manifests do."""


def vector_plan(
    encoder: str, corpus: str, documents: int, width: int, dtype: str = "float16"
) -> dict[str, Any]:
    """What vectors are made of: fingerprints of encoder and corpus, and how many of which width are kept as which of `DTYPES`."""
    shape = [documents, width]
    return {"format": FORMAT, "encoder": encoder, "corpus": corpus, "shape": shape, "dtype": dtype}


def plan_of(encoder: Any, documents: Any, dtype: str) -> dict[str, Any]:
    """What the vectors of a corpus (a `DocumentStore`) by an `Encoder` depend on."""
    return vector_plan(encoder.fingerprint, documents.fingerprint, len(documents), encoder.width, dtype)


def open_vectors(folder: str | Path, plan: dict[str, Any], remedy: str) -> Vectors:
    """The vectors of a finished folder, memory-mapped.

    Raises DataError, ending in `remedy`, when there are none, they cannot be read, or they were made by another plan.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        state = "are not finished" if part_folder(folder).exists() else "are not there"
        raise DataError(f"the vectors {folder} {state}; {remedy}")
    if manifest.get("format") not in (FIRST["format"], FORMAT):
        raise DataError(
            f"the vectors {folder} have the format {manifest.get('format')!r}, this version reads {FIRST['format']} and {FORMAT}; "
            f"{remedy}"
        )
    if other := _differences(manifest, plan):
        raise DataError(f"the vectors {folder} were made with {other}; {remedy}")
    try:
        values = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        scales = np.load(folder / SCALES, allow_pickle=False) if plan["dtype"] == "int8" else None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the vectors {folder} cannot be read ({error}); {remedy}") from error
    found = [(values, plan["dtype"], plan["shape"])]
    found += [] if scales is None else [(scales, "float32", plan["shape"][:1])]
    for part, dtype, shape in found:
        if list(part.shape) != shape or part.dtype != DTYPES[dtype]:
            raise DataError(
                f"the vectors {folder} are damaged: they hold {part.dtype}{list(part.shape)} in place of {dtype}{shape}; {remedy}"
            )
    return Vectors(values, scales)


class VectorWriter:
    """Writes vectors block by block; the `done` vectors of an interrupted writing by the same plan are kept."""

    def __init__(self, folder: str | Path, plan: dict[str, Any]) -> None:
        """Raises DataError when another plan's vectors are there, finished or not, or the place cannot be written."""
        self.folder, self.plan = Path(folder), plan
        self.part = part_folder(self.folder)
        for place in (self.folder, self.part):
            if place.exists() and (other := _differences(read_manifest(place) or {}, plan)):
                raise DataError(
                    f"{place} holds vectors made with {other}; delete it, or choose another folder for the new ones"
                )
        self.finished = (self.folder / MANIFEST).exists()
        if not self.finished and self.folder.is_dir() and any(self.folder.iterdir()):
            raise DataError(f"{folder} holds other files; choose another folder for the vectors")
        self.done = plan["shape"][0] if self.finished else 0
        if self.finished:
            return
        kept = read_manifest(self.part)
        rows, width = plan["shape"]
        try:
            self.part.mkdir(parents=True, exist_ok=True)
            self._values = self._map(VECTORS, plan["dtype"], (rows, width), anew=kept is None)
            self._scales = (
                self._map(SCALES, "float32", (rows,), anew=kept is None) if plan["dtype"] == "int8" else None
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"the vectors {folder} cannot be written ({error}); delete {self.part}, or choose another folder"
            ) from error
        self.done = 0 if kept is None else kept.get("done", rows)

    def _map(self, name: str, dtype: str, shape: tuple[int, ...], *, anew: bool) -> np.memmap:
        mode, shape = ("w+", shape) if anew else ("r+", None)
        return np.lib.format.open_memmap(self.part / name, mode=mode, dtype=DTYPES[dtype], shape=shape)

    def add(self, vectors: np.ndarray | Vectors) -> None:
        """The next vectors, float[m, width], or as they are kept; they are safe on the disk afterwards. DataError for vectors of
        another width, more of them than planned, or a number that the dtype cannot hold."""
        rows, width = self.plan["shape"]
        shape = (vectors.values if isinstance(vectors, Vectors) else vectors).shape
        if len(shape) != 2 or shape[1] != width or self.done + shape[0] > rows:
            raise DataError(
                f"the encoder gave vectors of the shape {list(shape)}, at most {rows - self.done} of {width} numbers were "
                "to come; correct its width"
            )
        stored = vectors if isinstance(vectors, Vectors) else as_stored(vectors, self.plan["dtype"])
        self._values[self.done : self.done + len(vectors)] = stored.values
        self._values.flush()
        if self._scales is not None:
            self._scales[self.done : self.done + len(vectors)] = stored.scales
            self._scales.flush()
        self.done += len(vectors)
        write_atomically(self.part / MANIFEST, json.dumps(self.plan | {"done": self.done}) + "\n")

    def finish(self) -> None:
        """Give the folder its name."""
        if self.finished:
            return
        if self.done != self.plan["shape"][0]:
            raise DataError(
                f"the vectors {self.folder} are {self.done} of {self.plan['shape'][0]}; add the rest"
            )
        del self._values, self._scales
        write_atomically(self.part / MANIFEST, json.dumps(self.plan) + "\n")
        clear_parts(self.part)
        os.replace(self.part, self.folder)
        self.finished = True


def _differences(manifest: dict[str, Any], plan: dict[str, Any]) -> str:
    if manifest.get("format") == FIRST["format"]:
        manifest = FIRST | manifest
    return differences(manifest, plan, DESCRIPTIONS)
