"""The vectors of a collection: a folder for each segment, so that they follow what is added, deleted and merged.

A segment's folder is one of `store` for its documents (zeros for those that were deleted before) with `keys.npy` beside: hashes of
the documents, by which a new segment takes over the vectors of those that it was merged from. No document is encoded twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.collection.commit import FOREVER, LOCK, locked
from gemkr.collection.segment import OpenSegment
from gemkr.errors import DataError
from gemkr.files import require_writable_folder
from gemkr.interfaces import Encoder
from gemkr.progress import progress_bar
from gemkr.vector_index.live_vectors import LiveVectors
from gemkr.vector_index.manifest import MANIFEST, part_folder, read_manifest
from gemkr.vector_index.store import VectorWriter, open_vectors, plan_of, vector_plan
from gemkr.vector_index.vectors import DTYPES, Vectors, as_stored

KEYS = "keys.npy"
MOST_ENCODED = 4096
"""Documents that a retriever encodes when it is opened; more are for `gemkr embed`."""
BLOCK = 1024
Parts = Sequence[tuple[OpenSegment, np.ndarray]]
"""Segments, and int64[n], ascending: their deleted documents."""


@dataclass(frozen=True)
class Followed:
    """The vectors of the live documents, how many of these were encoded now, and how many were there."""

    vectors: LiveVectors
    encoded: int
    there: int


def segment_vectors(
    folder: str | Path,
    parts: Parts,
    encoder: Encoder,
    dtype: str,
    remedy: str,
    *,
    most: float = MOST_ENCODED,
    progress: bool = False,
) -> Followed:
    """The vectors of a collection's generation. What is missing of them is made now, unless that means to encode more than `most`
    documents; folders of other generations are deleted.

    DataError, ending in `remedy`, for too many missing ones, or vectors of another encoder; where the folder cannot be written.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists() or (part_folder(folder) / MANIFEST).exists():
        raise DataError(
            f"{folder} holds vectors of a corpus that does not change; choose another folder for those of a collection"
        )
    places = [folder / name_of(segment) for segment, _ in parts]
    plans = [_plan(segment, encoder, dtype) for segment, _ in parts]
    count = 0
    with ExitStack() as stack:
        if not all((place / MANIFEST).exists() for place in places):
            require_writable_folder(folder)
            fault = f"another process is writing the vectors {folder}"
            stack.enter_context(locked(folder / LOCK, fault, FOREVER))
            count = _write_missing(folder, places, plans, parts, encoder, remedy, most, progress)
        found = [open_vectors(place, plan, remedy) for place, plan in zip(places, plans, strict=True)]
    vectors = LiveVectors([(v, gone) for v, (_, gone) in zip(found, parts, strict=True)], encoder.width)
    return Followed(vectors, count, len(vectors) - count)


def _write_missing(
    folder: Path,
    places: Sequence[Path],
    plans: Sequence[dict[str, Any]],
    parts: Parts,
    encoder: Encoder,
    remedy: str,
    most: float,
    progress: bool,
) -> int:
    """How many documents were encoded."""
    old = [place for place in folder.iterdir() if place.suffix != ".part" and (place / MANIFEST).exists()]
    known = [_Known(place, plans[0]) for place in old]
    missing = [
        _Missing(place, plan, *part, known)
        for place, plan, part in zip(places, plans, parts, strict=True)
        if place not in old
    ]
    count = sum(len(each.unknown) for each in missing)
    if count > most:
        raise DataError(
            f"{count:,} documents of the collection have no vectors in {folder}, a retriever encodes at most {most:,}; {remedy}"
        )
    with progress_bar(desc="embedding", total=count, unit=" documents", disable=not progress) as bar:
        for each in missing:
            each.write(encoder, bar)
    for place in folder.iterdir():
        if place.is_dir() and place.with_name(place.name.removesuffix(".part")) not in places:
            shutil.rmtree(place, ignore_errors=True)
    return count


def live_parts(documents: Any) -> Parts | None:
    """The segments of a collection's documents; None for those of a corpus file."""
    return getattr(documents, "live_parts", None)


def corpus_vectors(
    folder: str | Path, documents: Any, encoder: Encoder, dtype: str, remedy: str
) -> Vectors | LiveVectors:
    """The vectors of a corpus file's documents, or of a collection's; DataError, ending in `remedy`, where they are missing."""
    parts = live_parts(documents)
    if parts is None:
        return open_vectors(folder, plan_of(encoder, documents, dtype), remedy)
    return segment_vectors(folder, parts, encoder, dtype, remedy).vectors


def name_of(segment: OpenSegment) -> str:
    """The name of a segment's folder."""
    facts = [segment.part.serial, asdict(segment.part)["files"]]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class _Known:
    """Vectors that are there, found by the documents' keys."""

    def __init__(self, place: Path, wanted: dict[str, Any]) -> None:
        """DataError where they are of another encoder, width or dtype than those `wanted`, or damaged."""
        remedy = f"delete {place.parent}, or choose another folder for the vectors"
        own = {name: (read_manifest(place) or {}).get(name) for name in ("corpus", "shape")}
        plan = wanted | {"corpus": own["corpus"], "shape": [(own["shape"] or [0])[0], wanted["shape"][1]]}
        self.vectors = open_vectors(place, plan, remedy)
        try:
            self._keys = np.load(place / KEYS, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"the vectors {place} cannot be read ({error}); {remedy}") from error

    def find(self, keys: np.ndarray) -> np.ndarray:
        """int64[n]: the row of each key uint64[2, n], or -1."""
        if not self._keys.shape[1]:
            return np.full(keys.shape[1], -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys[0], keys[0]), self._keys.shape[1] - 1)
        same = (self._keys[0][at] == keys[0]) & (self._keys[1][at] == keys[1])
        return np.where(same, self._keys[2][at].astype(np.int64), -1)


class _Missing:
    """A segment whose vectors are to be written: which of them others hold, and `unknown` documents to encode."""

    def __init__(
        self,
        place: Path,
        plan: dict[str, Any],
        segment: OpenSegment,
        gone: np.ndarray,
        known: Sequence[_Known],
    ) -> None:
        self._place, self._plan, self._segment, self._known = place, plan, segment, known
        self._live = np.setdiff1d(np.arange(len(segment.texts)), gone)
        self._keys = _document_keys(segment, self._live)
        self._home = np.full(len(segment.texts), -1)
        self._row = np.zeros(len(segment.texts), np.int64)
        for number, each in enumerate(known):
            rows = each.find(self._keys)
            docs = self._live[rows >= 0]
            self._home[docs], self._row[docs] = number, rows[rows >= 0]
        self.unknown = self._live[self._home[self._live] < 0]

    def write(self, encoder: Encoder, bar: Any) -> None:
        writer = VectorWriter(self._place, self._plan)
        order = np.argsort(self._keys[0])
        rows = self._live[order].astype(np.uint64)
        np.save(writer.part / KEYS, np.stack([*self._keys[:, order], rows]))
        for start in range(writer.done, len(self._home), BLOCK):
            stop = min(start + BLOCK, len(self._home))
            writer.add(self._block(start, stop, encoder))
            bar.update(int(((self.unknown >= start) & (self.unknown < stop)).sum()))
        writer.finish()

    def _block(self, start: int, stop: int, encoder: Encoder) -> Vectors:
        width, dtype = self._plan["shape"][1], self._plan["dtype"]
        values = np.zeros((stop - start, width), DTYPES[dtype])
        scales = np.zeros(stop - start, np.float32) if dtype == "int8" else None
        docs = self.unknown[(self.unknown >= start) & (self.unknown < stop)]
        homes = self._home[start:stop]
        taken = [(np.flatnonzero(homes == number), each.vectors) for number, each in enumerate(self._known)]
        sources = [(places, old, self._row[start + places]) for places, old in taken if len(places)]
        if len(docs):
            new = encoder.encode_documents([self._segment.texts.document(doc) for doc in docs.tolist()])
            sources.append((docs - start, as_stored(new, dtype), np.arange(len(docs))))
        for places, vectors, rows in sources:
            if vectors.width != width or len(vectors) < len(rows):
                raise DataError(
                    f"the encoder gave vectors of the shape {[len(vectors), vectors.width]} for {len(rows)} documents, {width} numbers "
                    "each were to come; correct its width"
                )
            values[places] = vectors.values[rows]
            if scales is not None:
                scales[places] = vectors.scales[rows]
        return Vectors(values, scales)


def _document_keys(segment: OpenSegment, docs: np.ndarray) -> np.ndarray:
    """uint64[2, n]: hashes of what an encoder may read of each document."""
    texts, digests = segment.texts, bytearray()
    for doc in docs.tolist():
        bounds = texts.bounds[3 * doc : 3 * doc + 4].tolist()
        doc_id = texts.ids[doc].encode()
        head = json.dumps([len(doc_id), *(stop - bounds[0] for stop in bounds[1:])]).encode()
        content = texts.bytes[bounds[0] : bounds[3]]
        digests += hashlib.blake2b(head + doc_id + content, digest_size=16).digest()
    return np.frombuffer(bytes(digests), np.uint64).reshape(-1, 2).T


def _plan(segment: OpenSegment, encoder: Encoder, dtype: str) -> dict[str, Any]:
    return vector_plan(encoder.fingerprint, name_of(segment), len(segment.texts), encoder.width, dtype)
