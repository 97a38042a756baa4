"""A folder of token vectors of a corpus, memory-mapped, with the encoder and the corpus that they belong to.

`values.f16` float16[tokens, width] and `offsets.i64` int64[documents + 1], little-endian, without headers, and `manifest.json`. Written in
blocks into FOLDER.part, so that an interrupted embedding goes on after the last block that is safe on the disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gemkr.errors import DataError
from gemkr.files import clear_parts, write_atomically
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.manifest import MANIFEST, differences, part_folder, read_manifest

VALUES, OFFSETS = "values.f16", "offsets.i64"
FORMAT = "tokens 1"
DESCRIPTIONS = {
    "format": "another format ({there!r}, not {here!r})",
    "encoder": "another encoder, or with its texts read otherwise",
    "corpus": "another corpus",
    "shape": "another number of documents or width of vectors ({there}, not {here})",
}
"""What differs, where these entries of two manifests do."""


def token_plan(encoder: str, corpus: str, documents: int, width: int) -> dict[str, Any]:
    """What token vectors are made of: fingerprints of encoder and corpus, and of how many documents vectors of which width are kept."""
    return {"format": FORMAT, "encoder": encoder, "corpus": corpus, "shape": [documents, width]}


def plan_of_tokens(encoder: Any, documents: Any) -> dict[str, Any]:
    """What the token vectors of a corpus (a `DocumentStore`) by a `TokenEncoder` depend on."""
    return token_plan(encoder.fingerprint, documents.fingerprint, len(documents), encoder.width)


def open_tokens(folder: str | Path, plan: dict[str, Any], remedy: str) -> TokenVectors:
    """The token vectors of a finished folder, memory-mapped.

    Raises DataError, ending in `remedy`, when there are none, they cannot be read, or they were made by another plan.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest is None:
        state = "are not finished" if part_folder(folder).exists() else "are not there"
        raise DataError(f"the token vectors {folder} {state}; {remedy}")
    if other := differences(manifest, plan, DESCRIPTIONS):
        raise DataError(f"the token vectors {folder} were made with {other}; {remedy}")
    documents, width = plan["shape"]
    try:
        offsets = np.fromfile(folder / OFFSETS, "<i8")
        size = (folder / VALUES).stat().st_size
        tokens = int(offsets[-1]) if len(offsets) else 0
        fits = len(offsets) == documents + 1 and offsets[0] == 0 and (np.diff(offsets) >= 0).all()
        if not fits or size != 2 * width * tokens or tokens != manifest.get("tokens"):
            raise DataError(
                f"the token vectors {folder} are damaged: {OFFSETS} and the {size} bytes of {VALUES} do not fit {documents} documents "
                f"and {manifest.get('tokens')} tokens of {width} numbers; {remedy}"
            )
        empty = np.empty((0, width), np.float16)
        values = np.memmap(folder / VALUES, "<f2", "r", shape=(tokens, width)) if tokens else empty
    except OSError as error:
        raise DataError(f"the token vectors {folder} cannot be read ({error}); {remedy}") from error
    return TokenVectors(np.asarray(values), offsets)


class TokenWriter:
    """Writes the tokens of documents block by block; those of the `done` documents of an interrupted writing are kept."""

    def __init__(self, folder: str | Path, plan: dict[str, Any]) -> None:
        """Raises DataError when another plan's vectors are there, finished or not, or the place cannot be written."""
        self.folder, self.plan = Path(folder), plan
        self.part = part_folder(self.folder)
        for place in (self.folder, self.part):
            if place.exists() and (other := differences(read_manifest(place) or {}, plan, DESCRIPTIONS)):
                raise DataError(
                    f"{place} holds token vectors made with {other}; delete it, or choose another folder for the new ones"
                )
        self.finished = (self.folder / MANIFEST).exists()
        if not self.finished and self.folder.is_dir() and any(self.folder.iterdir()):
            raise DataError(f"{folder} holds other files; choose another folder for the token vectors")
        kept = read_manifest(self.folder if self.finished else self.part) or {}
        self.tokens = int(kept.get("tokens", 0))
        self.done = plan["shape"][0] if self.finished else int(kept.get("done", 0))
        if self.finished:
            return
        try:
            self.part.mkdir(parents=True, exist_ok=True)
            self._values = self._open(VALUES, 2 * plan["shape"][1] * self.tokens)
            self._offsets = self._open(OFFSETS, 8 * self.done)
        except OSError as error:
            raise self._failure(error) from error

    def _open(self, name: str, size: int) -> BinaryIO:
        """A file to append to, cut to what was safe when the last block was recorded."""
        stream = open(self.part / name, "ab")  # noqa: SIM115 - open until finish()
        if stream.seek(0, os.SEEK_END) < size:
            stream.close()
            raise DataError(
                f"{self.part / name} is shorter than its manifest says; delete {self.part} and begin again"
            )
        stream.truncate(size)
        return stream

    def add(self, tokens: TokenVectors) -> None:
        """The tokens of the next documents; they are safe on the disk afterwards. DataError for vectors of another width, more
        documents than planned, or a number that float16 cannot hold."""
        documents, width = self.plan["shape"]
        count = len(tokens.offsets) - 1
        if (
            tokens.values.ndim != 2
            or tokens.values.shape[1] != width
            or len(tokens.values) != tokens.offsets[-1]
        ):
            raise DataError(
                f"the encoder gave token vectors of the shape {list(tokens.values.shape)} for {tokens.offsets[-1]} tokens of {width} "
                "numbers; correct its width"
            )
        if self.done + count > documents:
            raise DataError(
                f"{count} documents were given, at most {documents - self.done} were to come; add the corpus once"
            )
        with np.errstate(over="ignore"):
            values = tokens.values.astype("<f2", copy=False)
        if not np.isfinite(values).all():
            raise DataError(
                f"a token vector holds a number that float16 cannot ({np.finfo('float16').max:g} is its largest); check the encoder's "
                "weights"
            )
        try:
            for stream, array in (
                (self._values, values),
                (self._offsets, tokens.offsets[:-1].astype("<i8") + self.tokens),
            ):
                stream.write(np.ascontiguousarray(array).data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise self._failure(error) from error
        self.done, self.tokens = self.done + count, self.tokens + len(values)
        record = self.plan | {"done": self.done, "tokens": self.tokens}
        write_atomically(self.part / MANIFEST, json.dumps(record) + "\n")

    def finish(self) -> None:
        """Give the folder its name."""
        if self.finished:
            return
        if self.done != self.plan["shape"][0]:
            raise DataError(
                f"the token vectors {self.folder} are of {self.done} of {self.plan['shape'][0]} documents; add the rest"
            )
        try:
            self._offsets.write(np.array([self.tokens], "<i8").data)
            for stream in (self._values, self._offsets):
                stream.flush()
                os.fsync(stream.fileno())
                stream.close()
            clear_parts(self.part)
            os.replace(self.part, self.folder)
        except OSError as error:
            raise self._failure(error) from error
        self.finished = True

    def _failure(self, error: OSError) -> DataError:
        return DataError(
            f"the token vectors {self.folder} cannot be written ({error.strerror}); make room and run the same command again, or "
            "choose another folder"
        )
