"""ShardedCollection: a folder of shards with the interface of a collection; its index is searched in a process for each shard.

A change builds the new parts of every shard first and then replaces their manifests, one after the other: what is refused, or
stopped before that, changes nothing. Shards that a machine's end between two replacements left behind take the change again by
`update`, or `delete` with `ignore_missing`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gemkr.collection.change import Change, changing
from gemkr.collection.collection import Collection, missing_ids
from gemkr.collection.manifest import is_collection
from gemkr.collection.shard_folder import (
    create_shards,
    dealt,
    is_sharded,
    read_dealt,
    shard_folders,
    shard_of,
)
from gemkr.collection.shard_processes import LocalShards
from gemkr.collection.sharded_documents import ShardedDocuments
from gemkr.collection.shards import ShardedIndex
from gemkr.errors import DataError
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Document

SUMMED = ("generation", "documents", "tokens", "deleted", "segments", "negative segments", "bytes")


class ShardedCollection:
    """Make one with `create` or `open`. Methods are those of `Collection`."""

    def __init__(self, folder: Path, shards: list[Collection], *, partial: bool = False) -> None:
        """Use `create` or `open`."""
        self.folder, self.shards, self.partial = folder, shards, partial
        self._documents: ShardedDocuments | None = None
        self._index: ShardedIndex | None = None

    @classmethod
    def create(
        cls, folder: str | Path, shards: int, *, tokenizer: str | Path, **settings: Any
    ) -> ShardedCollection:
        """A new folder of so many shards; settings and errors as of `Collection.create`. A script that makes one needs the usual
        `if __name__ == "__main__"`."""
        create_shards(Path(folder), shards, tokenizer=tokenizer, **settings)
        return cls.open(folder, tokenizer=tokenizer)

    @classmethod
    def open(
        cls, folder: str | Path, *, tokenizer: str | Path | None = None, partial: bool = False
    ) -> ShardedCollection:
        """The newest generations. With `partial`, a shard whose process dies is left out of later answers, see `ShardedIndex`."""
        shards = [Collection.open(shard, tokenizer=tokenizer) for shard in shard_folders(Path(folder))]
        return cls(Path(folder), shards, partial=partial)

    @property
    def documents(self) -> ShardedDocuments:
        """The live documents of all shards, read in this process."""
        if self._documents is None:
            self._documents = ShardedDocuments(self.folder, [shard.documents for shard in self.shards])
        return self._documents

    @property
    def index(self) -> ShardedIndex:
        """The index over all shards, whose processes start at the first use and end with it. DataError where a shard has changed
        since this object was opened."""
        if self._index is None:
            shards = LocalShards([shard.folder for shard in self.shards], partial=self.partial)
            self._index = shards.__enter__()
            weakref.finalize(self._index, shards.close)
            found = zip(self.shards, self._index.fingerprints, strict=True)
            changed = next((s for s, theirs in found if theirs not in (None, s.fingerprint)), None)
            if changed is not None:
                self._index = None
                raise DataError(f"the shard {changed.folder} was changed while it was opened; open it again")
            self._index.doc_ids, self._index.path = self.documents.doc_ids, self.folder
        return self._index

    @property
    def generation(self) -> int:
        """Counts the changes of all shards."""
        return sum(shard.generation for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the contents."""
        return self.documents.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of all documents."""
        return self.shards[0].tokenizer

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return f"ShardedCollection({str(self.folder)!r}, {len(self.shards)} shards, {len(self)} documents)"

    def add(
        self, documents: Iterable[Document], *, memory_limit: int | None = None, processes: int = 1
    ) -> None:
        """As `Collection.add`."""
        self._append(documents, replace=False, memory_limit=memory_limit, processes=processes)

    def update(
        self, documents: Iterable[Document], *, memory_limit: int | None = None, processes: int = 1
    ) -> None:
        """As `Collection.update`."""
        self._append(documents, replace=True, memory_limit=memory_limit, processes=processes)

    def delete(self, doc_ids: Iterable[str], ignore_missing: bool = False) -> None:
        """As `Collection.delete`."""
        if isinstance(doc_ids, str):
            raise DataError(f"doc_ids must be a list of document ids, it is the text {doc_ids!r}")
        ids = list(dict.fromkeys(doc_ids))
        homes = shard_of(ids, len(self.shards))
        with self._changing() as changes:
            found = []
            for number, change in enumerate(changes):
                theirs = [place for place, home in enumerate(homes) if home == number]
                places, segments, docs = change.before.documents.find([ids[place] for place in theirs])
                found += [theirs[place] for place in places.tolist()]
                change.remove(change.places(segments, docs))
            if len(found) < len(ids) and not ignore_missing:
                raise DataError(missing_ids(self.folder, ids, found))

    def compact(self, memory_limit: int | None = None) -> None:
        """As `Collection.compact`, one shard after the other."""
        for shard in self.shards:
            shard.compact(memory_limit)
        self.refresh()

    def verify(self) -> None:
        """As `Collection.verify`; also DataError for a document in another shard than its own, which nothing would find."""
        shard_folders(self.folder)
        for number, shard in enumerate(self.shards):
            shard.verify()
            ids = list(shard.documents.doc_ids)
            for doc_id, home in zip(ids, shard_of(ids, len(self.shards)), strict=True):
                if home != number:
                    raise DataError(
                        f"the document {doc_id!r} lies in {shard.folder}, not in {self.shards[home].folder}; change shards through "
                        f"{self.folder} only"
                    )

    def refresh(self) -> int:
        """Go to the newest generations; their number."""
        before = [shard.fingerprint for shard in self.shards]
        for shard in self.shards:
            shard.refresh()
        if before != [shard.fingerprint for shard in self.shards]:
            self._documents = self._index = None
        return self.generation

    def info(self) -> dict[str, Any]:
        """What all shards together are made of, and how many documents each holds."""
        every = [shard.info() for shard in self.shards]
        facts = {
            key: sum(each[key] for each in every) if key in SUMMED else every[0][key] for key in every[0]
        }
        return {"shards": len(self.shards), **facts} | {
            shard.folder.name: len(shard) for shard in self.shards
        }

    def _append(
        self, documents: Iterable[Document], *, replace: bool, memory_limit: int | None, processes: int
    ) -> None:
        with dealt(documents, len(self.shards), self.folder) as files, self._changing() as changes:
            for change, file in zip(changes, files, strict=True):
                change.append(
                    read_dealt(file),
                    lambda: self.tokenizer,
                    replace=replace,
                    memory_limit=memory_limit,
                    processes=processes,
                )

    @contextmanager
    def _changing(self) -> Iterator[list[Change]]:
        """A change of every shard, committed where all succeed."""
        with ExitStack() as stack:
            changes = [stack.enter_context(changing(shard.folder, shard.newest)) for shard in self.shards]
            yield changes
            for change in changes:
                change.settle()
        self.refresh()


def holds_collection(path: str | Path) -> bool:
    """Whether a folder is a collection, or one of shards."""
    return is_collection(path) or is_sharded(path)


def open_collection(
    folder: str | Path, *, tokenizer: str | Path | None = None, partial: bool = False
) -> Collection | ShardedCollection:
    """The collection or the shards of a folder; DataError where it is neither."""
    if is_sharded(folder):
        return ShardedCollection.open(folder, tokenizer=tokenizer, partial=partial)
    return Collection.open(folder, tokenizer=tokenizer)
