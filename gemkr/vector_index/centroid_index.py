"""Late interaction over many documents: tokens are kept as the number of a centroid and codes of what is left, and each centroid has
the list of its documents. How they are searched is `centroid_search`'s.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from gemkr.config.ranges import Positive, Share
from gemkr.errors import ConfigError, DataError
from gemkr.files import clear_parts, part_of
from gemkr.interfaces import TokenVectors
from gemkr.vector_index.centroid_folder import FORMAT, MANIFEST, describe, part_name, put_in_place, standing
from gemkr.vector_index.centroid_prepare import build_on_disk, clear_finished
from gemkr.vector_index.centroid_search import Parts, Steps
from gemkr.vector_index.exact import best_of
from gemkr.vector_index.live_tokens import LiveTokens, as_live
from gemkr.vector_index.maxsim import checked_queries, spread
from gemkr.vector_index.token_codec import BITS, ResidualCodec
from gemkr.vector_index.token_parts import Part, checked_documents
from gemkr.vector_index.token_sample import drawn_sample, list_count

SEARCHES = frozenset(field.name for field in fields(Steps))
"""Settings that change how an index is searched, not what it is."""


class CentroidIndex:
    """A `TokenVectorIndex` of coded tokens. Documents are numbered as they were added; deleted ones keep their numbers and are never
    found. A query that finds fewer documents than are wanted and there is scored against every document."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Residual codes of `bits` (2, 4, 8) a number; `lists` centroids (default: 16 times the root of the number of tokens, to a
        power of two). A query vector looks into `probes` lists, without those that score less than `prune` of its best. Of the documents
        there the best `candidates` are scored by centroids; of these at most `decoded` by their codes, and of these at most `rescored` by
        the vectors themselves (at least twice the documents wanted; 0: by decoded tokens), best first, until no other is likely to
        be among those wanted."""

        bits: Positive = 2
        lists: Positive | None = None
        probes: Positive = 16
        prune: Share = 0.4
        candidates: Positive = 32_768
        decoded: Positive = 8192
        rescored: int = 768

        def __post_init__(self) -> None:
            if self.bits not in BITS:
                raise ConfigError(f"index.bits is {self.bits}; use {', '.join(map(str, BITS))}")
            if self.rescored < 0:
                raise ConfigError(f"index.rescored is {self.rescored}; use 0 or more")

    def __init__(
        self,
        config: Config,
        codec: ResidualCodec,
        parts: Sequence[Part],
        deleted: np.ndarray | None = None,
        outside: int = 1,
    ) -> None:
        """`deleted` bool[n] marks documents that are no longer found; the vectors of the first `outside` parts are kept elsewhere."""
        self.config, self.codec, self.parts = config, codec, list(parts)
        self._steps = Steps(*(getattr(config, field.name) for field in fields(Steps)))
        self._outside = outside
        self._deleted = np.zeros(sum(map(len, self.parts)), bool) if deleted is None else deleted
        self._note()

    def _note(self) -> None:
        lengths = [np.zeros(0, np.int64), *(np.diff(part.offsets) for part in self.parts)]
        self._findable = (np.concatenate(lengths) > 0) & ~self._deleted
        marks = [np.zeros(0, bool), *(part.marks for part in self.parts)]
        self._unlike = self._findable & np.concatenate(marks)
        self._search = Parts(self.codec, self.parts)

    @classmethod
    def build(cls, config: Config, tokens: TokenVectors | LiveTokens) -> CentroidIndex:
        """Learn centroids and levels from a sample of the tokens, drawn with a fixed seed, and encode all, in memory; a part of the index
        for each one of `LiveTokens`, which must leave out no document. DataError for too few."""
        parts = as_live(tokens).parts
        lists = _lists(config, parts)
        codec = ResidualCodec.learned(drawn_sample(parts, lists), lists, config.bits)
        return cls(config, codec, [Part.of(part, codec) for part in parts], outside=len(parts))

    @classmethod
    def from_config(
        cls, config: Config, tokens: TokenVectors | LiveTokens, folder: str | Path | None = None
    ) -> CentroidIndex:
        """Over tokens in memory, built now; over those of a folder, the index that `prepare` wrote there. DataError where it is missing
        or damaged."""
        if folder is None:
            return cls.build(config, tokens)
        path = cls.path(config, tokens, folder)
        if not (path / MANIFEST).is_file():
            raise DataError(
                f"the token vectors {folder} have no centroid index of these settings; make it with gemkr embed CONFIG NAME"
            )
        return cls.open(path, config, tokens)

    @classmethod
    def prepare(cls, config: Config, tokens: TokenVectors | LiveTokens, folder: str | Path) -> bool:
        """Build the index into the folder of its tokens, the same as `build` would, with progress bars; False where it is there already.
        What a stopped build has finished is used (`centroid_build`); DataError where another process is at it or there is no room."""
        path = cls.path(config, tokens, folder)
        if (path / MANIFEST).is_file():
            clear_finished(path)
            return False
        parts = as_live(tokens).parts
        return build_on_disk(path, parts, _lists(config, parts), config.bits)

    @classmethod
    def path(cls, config: Config, tokens: TokenVectors | LiveTokens, folder: str | Path) -> Path:
        """Where the index lies: named after the settings that decide what it is, and the size of one corpus."""
        settings = {name: value for name, value in asdict(config).items() if name not in SEARCHES}
        size = [] if isinstance(tokens, LiveTokens) else [len(tokens.offsets), tokens.values.shape]
        key = json.dumps([FORMAT, settings, *size])
        return Path(folder) / f"centroid-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def __len__(self) -> int:
        return len(self._deleted)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.codec.centroids.shape[1]

    @property
    def bytes_per_token(self) -> float:
        """Of the whole index, without vectors that are kept beside it."""
        codec = sum(getattr(self.codec, name).nbytes for name in ("centroids", "scales", "levels"))
        tokens = sum(len(part.codes) for part in self.parts)
        return (codec + sum(part.bytes for part in self.parts)) / max(tokens, 1)

    @property
    def searched_exactly(self) -> int:
        """How many documents are so unlike those that the index was built of that each query is compared with all of them, by their
        vectors. Many take time: build the index anew."""
        return int(self._unlike.sum())

    def add(self, tokens: TokenVectors) -> np.ndarray:
        """Add documents, coded by the centroids that are there; their numbers int64[n]. They go to the disk with `save`. Those that the
        centroids do not fit are `searched_exactly`. DataError as `checked_documents`."""
        first = len(self)
        self.parts.append(Part.added(checked_documents(tokens, self.width), self.codec))
        self._deleted = np.concatenate([self._deleted, np.zeros(len(tokens.offsets) - 1, bool)])
        self._note()
        return np.arange(first, len(self))

    def delete(self, numbers: np.ndarray) -> None:
        """Find these documents (int64[m]) no more; DataError for a number that is not there."""
        numbers = np.asarray(numbers, np.int64)
        bad = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(bad):
            raise DataError(
                f"there is no document {bad[0]} among the {len(self)} of the index; delete another"
            )
        self._deleted[numbers] = True
        self._note()

    def search(
        self, queries: TokenVectors, k: int, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `ExactTokenIndex.search`, of the documents that are found; queries are spread over threads."""
        queries = checked_queries(queries, self.width)
        mask = self._findable if allowed is None else self._findable & allowed
        each = [queries.values[start:stop] for start, stop in pairwise(queries.offsets)]
        like, unlike = mask & ~self._unlike, np.flatnonzero(mask & self._unlike)
        rows = spread(lambda vectors: self._row(vectors, k, like, unlike), each)
        scores = np.array([row[0] for row in rows], np.float32).reshape(len(each), k)
        docs = np.array([row[1] for row in rows], np.int64).reshape(len(each), k)
        return scores, docs

    def _row(
        self, vectors: np.ndarray, k: int, like: np.ndarray, unlike: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        docs, scores = self._search.found(vectors, k, like, self._steps)
        if len(unlike):
            more = self._search.rescored(vectors, unlike, exact=True)
            docs, scores = np.concatenate([docs, unlike]), np.concatenate([scores, more])
        if len(docs) < k and len(docs) < np.count_nonzero(like) + len(unlike):
            docs = np.union1d(np.flatnonzero(like), unlike)
            scores = self._search.rescored(vectors, docs, exact=bool(self.config.rescored))
        width = max(k, len(docs))
        all_scores, all_docs = np.full((1, width), -np.inf, np.float32), np.full((1, width), -1, np.int64)
        order = np.argsort(docs)
        all_scores[0, : len(docs)], all_docs[0, : len(docs)] = scores[order], docs[order]
        best = best_of(all_scores, all_docs, k)
        return best[0][0], best[1][0]

    def save(self, folder: str | Path) -> None:
        """Write the index, whole or not at all, in the place of an earlier state of it; vectors of documents that were added later are
        kept with it. DataError where it cannot be written."""
        folder = Path(folder)
        part = part_of(folder)
        try:
            clear_parts(folder.parent, folder.name)
            part.mkdir(parents=True)
            self.codec.save(part)
            for number, own in enumerate(self.parts):
                own.save(part / part_name(number), values=number >= self._outside)
            describe(part, self.codec, len(self.parts), self._outside, self._deleted)
            put_in_place(part, folder)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise DataError(
                f"the index {folder} cannot be written ({error.strerror}); make room, or choose another folder"
            ) from error

    @classmethod
    def open(
        cls,
        folder: str | Path,
        config: Config | None = None,
        tokens: TokenVectors | LiveTokens | None = None,
    ) -> CentroidIndex:
        """Read what `save` wrote, memory-mapped; `tokens` are the vectors of the documents that it was built of, without those of parts
        that are never asked for."""
        folder = standing(Path(folder))
        try:
            record = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if record["format"] != FORMAT:
                raise DataError(
                    f"the index {folder} has the format {record['format']!r}, this version reads {FORMAT!r}; make it anew"
                )
            codec = ResidualCodec.open(folder, unit=record["unit"], far=record["far"])
            parts = [Part.open(folder / part_name(number)) for number in range(record["parts"])]
            deleted = np.load(folder / "deleted.npy", allow_pickle=False)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"the index {folder} cannot be read ({error}); delete it and make it with gemkr embed CONFIG NAME"
            ) from error
        outside = record.get("outside", 1)
        for number, own in enumerate([] if tokens is None else as_live(tokens).parts[:outside]):
            if not len(own.values):
                continue
            if not np.array_equal(own.offsets, parts[number].offsets):
                raise DataError(f"the index {folder} is of other token vectors; delete it and make it anew")
            parts[number] = replace(parts[number], stored=own)
        return cls(config or cls.Config(bits=codec.bits), codec, parts, deleted, outside)


def _lists(config: CentroidIndex.Config, parts: Sequence[TokenVectors]) -> int:
    return list_count(config.lists, sum(len(part.values) for part in parts))
