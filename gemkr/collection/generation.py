"""One generation of a collection, opened: its segments, the index over them, its documents. It never changes.

Opening maps files and reads their headers: O(segments), and 16 bytes for each deleted document
with their checksums (0.1 s per million).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.manifest import PARTS, Manifest, Manifests
from gemkr.collection.segment import (
    OpenNegative,
    OpenSegment,
    check_files,
    docs_of,
    open_negative,
    open_places,
    open_segment,
)
from gemkr.errors import DataError
from gemkr.fm_index import FMIndex, SegmentedIndex

NO_PLACES = np.zeros((2, 0), np.int64)


@dataclass(frozen=True)
class Generation:
    """`deleted` int64[2, n]: serials of segments, and the deleted documents there, ascending."""

    folder: Path
    manifest: Manifest
    segments: tuple[OpenSegment, ...] = ()
    negatives: tuple[OpenNegative, ...] = ()
    deleted: np.ndarray = field(default_factory=lambda: NO_PLACES)

    @cached_property
    def deleted_of(self) -> list[np.ndarray]:
        """int64[n], ascending, for each segment: its deleted documents."""
        return [docs_of(self.deleted, segment.part.serial) for segment in self.segments]

    @cached_property
    def index(self) -> FMIndex | SegmentedIndex:
        """The index of the live documents: the one segment's own where nothing is deleted."""
        if len(self.segments) == 1 and not self.deleted.shape[1]:
            return self.segments[0].index
        index = joined_index([self])
        index.path = self.folder
        return index

    @property
    def deleted_numbers(self) -> list[np.ndarray]:
        """int64[n], ascending, for each negative segment: its documents, numbered over all segments with the deleted ones counted."""
        first = np.cumsum([0, *(len(segment.index) for segment in self.segments)])
        serials = np.array([segment.part.serial for segment in self.segments], np.int64)
        order = np.argsort(serials)
        return [
            first[order[np.searchsorted(serials, negative.places[0], sorter=order)]] + negative.places[1]
            for negative in self.negatives
        ]

    @cached_property
    def documents(self) -> CollectionDocuments:
        """The live documents."""
        return CollectionDocuments(
            self.folder, self.segments, self.deleted_of, self.index.doc_ids, self.manifest.fingerprint
        )

    def info(self) -> dict[str, Any]:
        """What this generation is made of."""
        manifest = self.manifest
        return {
            "generation": manifest.generation,
            "documents": len(self.index),
            "tokens": self.index.n_tokens,
            "deleted": 0 if manifest.deleted is None else manifest.deleted.documents,
            "segments": len(manifest.segments),
            "negative segments": len(manifest.negatives),
            "bytes": sum(file.bytes for part in manifest.parts for file in part.files.values()),
            "tokenizer": manifest.tokenizer.path,
            "tokenizer fingerprint": manifest.tokenizer.fingerprint,
        }

    def verify(self) -> None:
        """Read every file and compare the checksums, and the negative segments with the list of deleted documents; DataError
        names what is wrong. About 1 s per GB."""
        for part in self.manifest.parts:
            check_files(self.folder, part, contents=True)
        places = [negative.places for negative in self.negatives]
        listed = sorted_places(np.concatenate([NO_PLACES, *places], axis=1))
        if not np.array_equal(listed, self.deleted):
            raise DataError(
                f"the collection {self.folder} is damaged: its negative segments hold other documents than are deleted; restore "
                "it from a copy"
            )
        _ = self.index


def joined_index(generations: Sequence[Generation]) -> SegmentedIndex:
    """One index of the live documents of one or several collections (shards) with the same tokenizer, numbered one collection
    after the other, and searched in this process."""
    sizes = [sum(len(segment.index) for segment in each.segments) for each in generations]
    first = np.cumsum([0, *sizes]).tolist()
    tokenizer = generations[0].manifest.tokenizer
    return SegmentedIndex(
        [segment.index for each in generations for segment in each.segments],
        [deleted for each in generations for deleted in each.deleted_of],
        [negative.index for each in generations for negative in each.negatives],
        [start + docs for start, each in zip(first, generations) for docs in each.deleted_numbers],
        vocab_size=tokenizer.vocab_size,
        tokenizer_fingerprint=tokenizer.fingerprint,
    )


def open_newest(manifests: Manifests, known: Sequence[Generation] = ()) -> tuple[Generation, ...]:
    """The newest generation of each collection; parts that `known` (of the same collections) has open are kept. Waits for no
    writer.

    DataError where there is no collection, or a part is missing or damaged.
    """
    while True:
        newest = manifests.read()
        olds = known or [None] * len(newest)
        try:
            return tuple(
                old if old is not None and old.manifest == manifest else open_at(folder, manifest, old)
                for folder, manifest, old in zip(manifests.folders, newest, olds, strict=True)
            )
        except DataError:
            if manifests.read() == newest:  # else a writer has replaced the parts meanwhile
                raise


def verify(manifests: Manifests, opened: Sequence[Generation]) -> Sequence[Generation]:
    """`Generation.verify` of each, or of the newest ones where a change has deleted files of these; those that were verified."""
    while True:
        try:
            for each in opened:
                each.verify()
            return opened
        except DataError:
            before, opened = opened, open_newest(manifests, opened)
            if all(old is new for old, new in zip(before, opened, strict=True)):
                raise


def open_at(folder: Path, manifest: Manifest, known: Generation | None = None) -> Generation:
    """The generation that a manifest describes; raises as `open_newest`, also where a later change has deleted its parts."""
    segments = {} if known is None else {each.part.serial: each for each in known.segments}
    negatives = {} if known is None else {each.part.serial: each for each in known.negatives}
    record = manifest.tokenizer
    return Generation(
        folder,
        manifest,
        tuple(segments.get(p.serial) or open_segment(folder, p, record) for p in manifest.segments),
        tuple(negatives.get(p.serial) or open_negative(folder, p, record) for p in manifest.negatives),
        NO_PLACES if manifest.deleted is None else open_places(folder, manifest.deleted),
    )


def sorted_places(places: np.ndarray) -> np.ndarray:
    """int64[2, n] by serial, then document."""
    return np.ascontiguousarray(places[:, np.lexsort((places[1], places[0]))])


def stray_parts(folder: Path, manifest: Manifest) -> list[Path]:
    """The folders of parts that the manifest does not name: of interrupted changes, or of earlier generations."""
    kept = {part.name for part in manifest.parts}
    return [path for path in sorted((folder / PARTS).glob("*")) if path.name not in kept]
