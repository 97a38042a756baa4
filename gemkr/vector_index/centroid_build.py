"""A centroid index built on the disk in stages, each of which survives a stop: k-means, iteration by iteration; the codec; tokens encoded in
blocks; the lists of each part of the documents.

They grow in one folder: `index` becomes the index, `building.json` says what it is made of and what of it is safe. What is not recorded
there is made again, in the same blocks, so that a stop changes no byte of the index.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gemkr.files import clear_parts, write_atomically
from gemkr.interfaces import TokenVectors
from gemkr.progress import progress_bar
from gemkr.vector_index.centroid_folder import FORMAT, describe, part_name
from gemkr.vector_index.clustering import ITERATIONS, k_means
from gemkr.vector_index.npy_files import GrowingArray, write_array
from gemkr.vector_index.token_codec import BLOCK, ResidualCodec
from gemkr.vector_index.token_parts import lists_of
from gemkr.vector_index.token_sample import SAMPLE, drawn_sample

LOCK, RECORD, INDEX = ".lock", "building.json", "index"
KEPT_BLOCKS = 8
"""Blocks of tokens that are made safe together."""
LOOKED_AT = 4096
"""Tokens of each part by whose vectors an unfinished build knows them again."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Done:
    """What of a build is safe on the disk."""

    iterations: int = 0
    codec: dict[str, Any] | None = None
    tokens: int = 0
    lists: int = 0


class Build:
    """A build in its folder, which is locked."""

    def __init__(self, place: Path, parts: Sequence[TokenVectors], lists: int, bits: int) -> None:
        self._place, self._parts, self._lists, self._bits = place, parts, lists, bits
        self._index = place / INDEX
        self._firsts = np.cumsum([0, *(len(part.values) for part in parts)]).tolist()
        self._plan = {
            "format": FORMAT,
            "lists": lists,
            "bits": bits,
            "steps": [SAMPLE, ITERATIONS, BLOCK],
            "tokens": _digest(parts),
        }
        self._done = self._found()

    def _found(self) -> _Done:
        """What an earlier build has left, if it is of the same plan; everything else is deleted."""
        if not (self._place / RECORD).is_file():
            return self._cleared()
        try:
            record = json.loads((self._place / RECORD).read_text(encoding="utf-8"))
            if record["plan"] != self._plan:
                raise ValueError("it is of other tokens or settings")
            done = _Done(**record["done"])
            if done.codec is not None:
                ResidualCodec.open(self._index, **done.codec)
                for number in range(len(self._parts)):
                    with self._files(number, done.tokens):
                        pass
            elif done.iterations:
                np.load(self._centroids(done.iterations), allow_pickle=False)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            logger.warning("the unfinished index %s cannot go on (%s); it is built anew", self._place, error)
            return self._cleared()
        for path in (self._place, self._index):
            clear_parts(path)
        return done

    def _cleared(self) -> _Done:
        (self._place / RECORD).unlink(missing_ok=True)
        for path in self._place.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return _Done()

    def run(self) -> None:
        """Make everything that is not there yet."""
        if self._done != _Done():
            self._say_what_is_there()
        self._index.mkdir(exist_ok=True)
        codec = self._codec()
        self._encode(codec)
        self._list(codec)
        nothing = np.zeros(sum(len(part.offsets) - 1 for part in self._parts), bool)
        describe(self._index, codec, len(self._parts), len(self._parts), nothing)

    def _say_what_is_there(self) -> None:
        done, count = self._done, self._firsts[-1]
        logger.info(
            "the index %s goes on: %s",
            self._place.with_suffix(""),
            f"{done.iterations} of {ITERATIONS} iterations of k-means are there"
            if done.codec is None
            else f"the centroids and {done.tokens:,} of {count:,} encoded tokens are there",
        )

    def _keep(self, **done: Any) -> None:
        self._done = replace(self._done, **done)
        record = {"plan": self._plan, "done": asdict(self._done)}
        write_atomically(self._place / RECORD, json.dumps(record) + "\n")

    def _centroids(self, iterations: int) -> Path:
        return self._place / f"centroids-{iterations}.npy"

    def _codec(self) -> ResidualCodec:
        if self._done.codec is not None:
            return ResidualCodec.open(self._index, **self._done.codec)
        sample = drawn_sample(self._parts, self._lists, progress=True)
        first = self._done.iterations
        begun = np.load(self._centroids(first), allow_pickle=False) if first else None

        def keep(done: int, centroids: np.ndarray) -> None:
            write_array(self._centroids(done), centroids)
            self._keep(iterations=done)
            self._centroids(done - 1).unlink(missing_ok=True)

        found = k_means(sample, self._lists, begun=(first, begun), keep=keep, progress=True)
        codec = ResidualCodec.fitted(sample, found, self._bits, progress=True)
        codec.save(self._index)
        self._keep(codec={"unit": codec.unit, "far": codec.far})
        self._centroids(ITERATIONS).unlink(missing_ok=True)
        return codec

    @contextmanager
    def _files(self, number: int, tokens: int) -> Iterator[tuple[GrowingArray, GrowingArray]]:
        """Codes and residuals of a part, of which those among the first `tokens` of all are there."""
        values, first, folder = (
            self._parts[number].values,
            self._firsts[number],
            self._index / part_name(number),
        )
        folder.mkdir(exist_ok=True)
        n, width = values.shape
        rows = min(max(tokens - first, 0), n)
        with ExitStack() as stack:
            codes = GrowingArray(folder / "codes.npy", (n,), np.uint16, rows)
            stack.callback(codes.close)
            residuals = GrowingArray(folder / "residuals.npy", (n, width * self._bits // 8), np.uint8, rows)
            stack.callback(residuals.close)
            yield codes, residuals

    def _encode(self, codec: ResidualCodec) -> None:
        begun, count = self._done.tokens, self._firsts[-1]
        with progress_bar(total=count, initial=begun, desc="encoding", unit=" tokens") as bar:
            for number, first in enumerate(self._firsts[:-1]):
                with self._files(number, begun) as files:
                    self._encode_part(codec, number, max(begun - first, 0), files, bar.update)

    def _encode_part(
        self,
        codec: ResidualCodec,
        number: int,
        begun: int,
        files: Sequence[GrowingArray],
        told: Callable[[int], object],
    ) -> None:
        """The tokens of a part from `begun` on."""
        values, unsafe = self._parts[number].values, 0
        for start in range(begun, len(values), BLOCK):
            block = values[start : start + BLOCK]
            for file, rows in zip(files, codec.encoded(block), strict=True):
                file.add(rows)
            unsafe += 1
            if unsafe == KEPT_BLOCKS or start + len(block) == len(values):
                for file in files:
                    file.keep()
                self._keep(tokens=self._firsts[number] + start + len(block))
                unsafe = 0
            told(len(block))
        if not len(values):
            for file in files:
                file.keep()

    def _list(self, codec: ResidualCodec) -> None:
        begun, count = self._done.lists, self._firsts[-1]
        with progress_bar(
            total=count, initial=self._firsts[begun], desc="inverted lists", unit=" tokens"
        ) as bar:
            for number in range(begun, len(self._parts)):
                folder, offsets = self._index / part_name(number), self._parts[number].offsets
                codes = np.load(folder / "codes.npy", mmap_mode="r", allow_pickle=False)
                found = lists_of(np.asarray(codes), offsets, len(codec.centroids), bar.update)
                write_array(folder / "offsets.npy", offsets.astype(np.int64, copy=False))
                for name, array in zip(("list_offsets", "list_docs"), found, strict=True):
                    write_array(folder / f"{name}.npy", array)
                self._keep(lists=number + 1)


def _digest(parts: Sequence[TokenVectors]) -> str:
    """Of the documents' lengths and of some of their vectors."""
    found = hashlib.sha256()
    for part in parts:
        found.update(f"{part.values.shape} {part.values.dtype}".encode())
        found.update(np.ascontiguousarray(part.offsets).data)
        found.update(np.ascontiguousarray(part.values[:: max(1, len(part.values) // LOOKED_AT)]).data)
    return found.hexdigest()
