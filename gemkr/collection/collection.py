"""Collection: a corpus that is searched while it changes, in one folder.

A collection object shows one generation until it is refreshed or changes the collection itself. Documents are added as segments
and deleted by negative segments, so a change costs what it changes; `compact` merges all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gemkr.collection.change import Change
from gemkr.collection.commit import LOCK, changing
from gemkr.collection.documents import CollectionDocuments
from gemkr.collection.generation import Generation, open_newest, verify
from gemkr.collection.manifest import (
    PARTS,
    Manifest,
    OwnManifest,
    TokenizerRecord,
    is_collection,
    require_no_shard,
)
from gemkr.collection.merging import by_policy, compact
from gemkr.errors import DataError, TokenizerError
from gemkr.files import require_writable_folder
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.text.tokenizer import Tokenizer, fitted, load_tokenizer
from gemkr.types import Document

SHOWN_IDS = 3


class Collection:
    """Make one with `create` or `open`. Any number of processes may read a collection, one at a time may change it."""

    def __init__(
        self, folder: Path, generation: Generation, tokenizer_path: str | Path | None = None
    ) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self._now = generation
        self._tokenizer_path = tokenizer_path
        self._tokenizer: Tokenizer | None = None

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        tokenizer: str | Path,
        documents: Iterable[Document] = (),
        keep_white_space: bool = False,
        memory_limit: int | None = None,
        processes: int = 1,
    ) -> Collection:
        """A new collection of these documents, maybe none; the folder must be new or empty.

        The tokenizer (a sentencepiece model or Hugging Face folder) stays where it is; the collection records its path and
        fingerprint. `memory_limit` (bytes) and `processes` (that tokenize, 0: one per core) as for `gemkr index build`.
        Raises DataError, TokenizerError, IndexBuildError; then no collection is left.
        """
        folder = Path(folder)
        if is_collection(folder):
            raise DataError(
                f"{folder} is a collection already; add documents to it, or choose another folder"
            )
        require_no_shard(folder)
        loaded = load_tokenizer(tokenizer, keep_white_space=keep_white_space)
        require_writable_folder(folder)
        leftovers = OwnManifest(folder).leftovers()
        if any(path.name not in (LOCK, PARTS) and path not in leftovers for path in folder.iterdir()):
            raise DataError(f"{folder} holds other files; choose a new folder for the collection")
        record = TokenizerRecord(
            str(Path(tokenizer).resolve()), loaded.fingerprint(), loaded.vocab_size, keep_white_space
        )
        made = cls(folder, Generation(folder, Manifest(0, record)), tokenizer)
        made._tokenizer = loaded

        def nothing() -> list[Generation]:
            if is_collection(folder):
                raise DataError(
                    f"{folder} is a collection already; add documents to it, or choose another folder"
                )
            return [made._now]

        with changing(OwnManifest(folder), nothing) as (change,):
            change.append(
                documents, lambda: loaded, replace=False, memory_limit=memory_limit, processes=processes
            )
        made.refresh()
        return made

    @classmethod
    def open(cls, folder: str | Path, *, tokenizer: str | Path | None = None) -> Collection:
        """The newest generation of a collection. `tokenizer`: where it is now, if it was moved; only adding needs it.

        Milliseconds, whatever the number of documents that are not deleted. DataError names what is missing or damaged; nothing is served then.
        """
        folder = Path(folder)
        return cls(folder, *open_newest(OwnManifest(folder)), tokenizer)

    @property
    def index(self) -> FMIndex | SegmentedIndex:
        """The index of this generation's live documents; stays valid, whatever becomes of the collection."""
        return self._now.index

    @property
    def documents(self) -> CollectionDocuments:
        """This generation's live documents, numbered as in the index."""
        return self._now.documents

    @property
    def generation(self) -> int:
        """Counts the changes of the collection."""
        return self._now.manifest.generation

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of this generation's contents."""
        return self._now.manifest.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all documents; TokenizerError where it is gone or another one stands in its place."""
        if self._tokenizer is None:
            self._tokenizer = recorded_tokenizer(
                self.folder, self._now.manifest.tokenizer, self._tokenizer_path
            )
        return self._tokenizer

    def __len__(self) -> int:
        return len(self._now.index)

    def __repr__(self) -> str:
        return f"Collection({str(self.folder)!r}, generation {self.generation}, {len(self)} documents)"

    def add(
        self, documents: Iterable[Document], *, memory_limit: int | None = None, processes: int = 1
    ) -> None:
        """Append documents; all of them or, with a DataError, none: for an id that is there already, or a document without text
        and picture. Cost: that of an index of these documents, and now and then of a merge of small segments."""
        self._append(documents, False, memory_limit, processes)

    def update(
        self, documents: Iterable[Document], *, memory_limit: int | None = None, processes: int = 1
    ) -> None:
        """Append documents in place of those with their ids, if there are any, in one step; all of them or, with a DataError,
        none."""
        self._append(documents, True, memory_limit, processes)

    def _append(
        self, documents: Iterable[Document], replace: bool, memory_limit: int | None, processes: int
    ) -> None:
        with self._changing() as change:
            change.append(
                documents,
                lambda: self.tokenizer,
                replace=replace,
                memory_limit=memory_limit,
                processes=processes,
            )
            change.settle()

    def delete(self, doc_ids: Iterable[str], ignore_missing: bool = False) -> None:
        """Delete documents. DataError names ids that are not there, and nothing is deleted, unless `ignore_missing`.

        Cost: that of an index of these documents.
        """
        if isinstance(doc_ids, str):
            raise DataError(f"doc_ids must be a list of document ids, it is the text {doc_ids!r}")
        ids = list(dict.fromkeys(doc_ids))
        with self._changing() as change:
            found, segments, docs = change.before.documents.find(ids)
            if len(found) < len(ids) and not ignore_missing:
                raise DataError(missing_ids(self.folder, ids, found.tolist()))
            change.remove(change.places(segments, docs))
            change.settle()

    def compact(self, memory_limit: int | None = None, *, tiered: bool = False) -> None:
        """Merge all segments into one without deleted documents, or with `tiered` those only whose merge pays, by size
        (`policy`); nothing where that is so already. `memory_limit`: bytes, as for `gemkr index build`.

        Other processes may add and delete meanwhile; readers keep their generation. DataError where one compacts already. Cost:
        that of an index of the merged documents, and reading their tokens out of the segments.
        """
        compact(OwnManifest(self.folder), tiered, memory_limit)
        self.refresh()

    @property
    def due(self) -> bool:
        """Whether `compact(tiered=True)` would merge segments."""
        return by_policy(self._now) is not None

    def verify(self) -> None:
        """Read all files of this generation, or of the newest where a change has deleted some, and compare the checksums;
        DataError names what is damaged. About 1 s per GB."""
        verify(OwnManifest(self.folder), [self._now])

    def refresh(self) -> int:
        """Go to the newest generation; its number. Milliseconds; parts that are open already stay so."""
        (self._now,) = self._newest()
        return self.generation

    def info(self) -> dict[str, Any]:
        """What this generation is made of."""
        return self._now.info()

    def _newest(self) -> tuple[Generation, ...]:
        return open_newest(OwnManifest(self.folder), [self._now])

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        with changing(OwnManifest(self.folder), self._newest) as (change,):
            yield change
        self.refresh()


def recorded_tokenizer(folder: Path, record: TokenizerRecord, place: str | Path | None) -> Tokenizer:
    """The tokenizer that a collection was made with, from `place` where it was moved; TokenizerError where it is gone or another
    one stands there."""
    path = place or record.path
    if not Path(path).exists():
        raise TokenizerError(
            f"the tokenizer {path} of the collection {folder} does not exist; name where it is (--tokenizer)"
        )
    found = fitted(load_tokenizer(path), record.fingerprint)
    if found.fingerprint() != record.fingerprint:
        raise TokenizerError(
            f"the tokenizer {path} is not the one that the collection {folder} was made with; give that one"
        )
    return found


def missing_ids(folder: Path, ids: Sequence[str], found: Iterable[int]) -> str:
    """The sentence about ids that are not there."""
    there = set(found)
    missing = [repr(doc_id) for place, doc_id in enumerate(ids) if place not in there]
    more = f" and {len(missing) - SHOWN_IDS} more" if len(missing) > SHOWN_IDS else ""
    return (
        f"the collection {folder} holds no document {', '.join(missing[:SHOWN_IDS])}{more}, nothing was deleted; correct the ids, "
        "or ignore missing ones (--ignore-missing)"
    )
