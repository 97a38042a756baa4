"""Merges of segments beside the changes of a collection: the long work holds up no writer, and one merge runs at a time.

The new segment grows in the folder `merging` of the collection, which names the segments that it replaces, so that other changes
leave these alone, whatever they delete of them. In the end it becomes a part in a short change of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gemkr.collection.commit import FOREVER, MERGE_LOCK, MERGING, SERIALS, changing, locked
from gemkr.collection.generation import Generation, open_newest
from gemkr.collection.manifest import Manifests, Part
from gemkr.collection.policy import due
from gemkr.collection.segment import OpenSegment, check_files
from gemkr.collection.segment_writer import SegmentWriter
from gemkr.errors import DataError
from gemkr.files import write_atomically

Choice = Callable[[Generation], range | None]
"""Which neighbouring segments are to become one; None: none."""


def everything(generation: Generation) -> range | None:
    """All segments, unless they are one without deleted documents."""
    whole = len(generation.segments) <= 1 and not generation.deleted.shape[1]
    return None if whole else range(len(generation.segments))


def by_policy(generation: Generation) -> range | None:
    """What the size-tiered policy says."""
    return due(
        [segment.part.tokens for segment in generation.segments],
        [segment.part.documents for segment in generation.segments],
        [len(gone) for gone in generation.deleted_of],
    )


def compact(manifests: Manifests, tiered: bool, memory_limit: int | None) -> None:
    """Merge all segments of each collection into one, or with `tiered` what the policy names."""
    for number in range(len(manifests.folders)):
        if not tiered:
            merge_beside(manifests, number, everything, memory_limit)
        while tiered and merge_beside(manifests, number, by_policy, memory_limit):
            pass


def merge_beside(manifests: Manifests, number: int, choose: Choice, memory_limit: int | None = None) -> bool:
    """Merge segments of collection `number` as `choose` says; whether there were any. Others may add and delete meanwhile; its own
    commit waits for theirs.

    DataError where another process changes or merges at the beginning, a segment is damaged, or the disk full; nothing is changed
    then.
    """
    folder = manifests.folders[number]
    fault = f"another process is merging segments of the collection {manifests.folder}"
    with locked(manifests.folder / MERGE_LOCK, fault):
        try:
            with changing(manifests, lambda: open_newest(manifests)) as changes:
                generation = changes[number].before
                chosen = choose(generation)
                if chosen is None:
                    return False
                merged = [generation.segments[at] for at in chosen]
                gone = [generation.deleted_of[at] for at in chosen]
                if generation.manifest.deleted is not None:
                    check_files(folder, generation.manifest.deleted, contents=True)
                _announce(folder, merged)
            part = _merged(folder, generation, merged, gone, memory_limit)
            with changing(manifests, lambda: open_newest(manifests), FOREVER) as changes:
                changes[number].adopt(folder / MERGING, part, merged, gone)
        except OSError as error:
            raise DataError(
                f"segments of the collection {folder} cannot be merged ({error.strerror}), it stays as it is; make room and try again"
            ) from error
        finally:
            shutil.rmtree(folder / MERGING, ignore_errors=True)
    return True


def _announce(folder: Path, merged: list[OpenSegment]) -> None:
    shutil.rmtree(folder / MERGING, ignore_errors=True)
    (folder / MERGING).mkdir()
    write_atomically(folder / MERGING / SERIALS, json.dumps([segment.part.serial for segment in merged]))


def _merged(
    folder: Path,
    generation: Generation,
    merged: list[OpenSegment],
    gone: list[np.ndarray],
    memory_limit: int | None,
) -> Part | None:
    """The new segment, a part of the folder `merging`; None where all documents are deleted."""
    for segment in merged:  # a copy would get new checksums that hide a damage
        check_files(folder, segment.part, contents=True)
    if not sum(len(s.index) - len(docs) for s, docs in zip(merged, gone, strict=True)):
        return None
    writer = SegmentWriter(folder / MERGING, 1, generation.manifest.tokenizer, memory_limit)
    try:
        for segment, docs in zip(merged, gone, strict=True):
            writer.copy(segment, docs)
        return writer.finish()
    finally:
        writer.close()
