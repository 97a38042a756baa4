"""ShardedCollection: a folder of shards with the interface of a collection; its index is searched in a process for each shard.

A change builds the new parts of every shard and then replaces shards.json, which names them: it is seen in all shards or in none.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemkr.collection.change import Change
from gemkr.collection.collection import missing_ids, recorded_tokenizer
from gemkr.collection.commit import changing
from gemkr.collection.generation import Generation, open_newest, verify
from gemkr.collection.merging import by_policy, compact
from gemkr.collection.shard_build import read_dealt
from gemkr.collection.shard_folder import create_shards, dealt, shard_of
from gemkr.collection.shard_manifest import ShardManifests
from gemkr.collection.shard_processes import LocalShards
from gemkr.collection.sharded_documents import ShardedDocuments
from gemkr.collection.shards import ShardedIndex
from gemkr.config.shards import HERE, RAY, ShardsConfig
from gemkr.errors import DataError
from gemkr.text.tokenizer import Tokenizer
from gemkr.types import Document

if TYPE_CHECKING:
    from gemkr.collection.cluster import RayShards

SUMMED = ("generation", "documents", "tokens", "deleted", "segments", "negative segments", "bytes")


class ShardedCollection:
    """Make one with `create` or `open`. Methods are those of `Collection`."""

    def __init__(
        self,
        manifests: ShardManifests,
        shards: Sequence[Generation],
        tokenizer_path: str | Path | None = None,
        *,
        partial: bool = False,
        searched_by: ShardsConfig = HERE,
    ) -> None:
        """Use `create` or `open`."""
        self.folder, self._manifests = manifests.folder, manifests
        self.shards, self.partial, self.searched_by = tuple(shards), partial, searched_by
        self._tokenizer_path = tokenizer_path
        self._tokenizer: Tokenizer | None = None
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
        cls,
        folder: str | Path,
        *,
        tokenizer: str | Path | None = None,
        partial: bool = False,
        searched_by: ShardsConfig = HERE,
    ) -> ShardedCollection:
        """The newest generations. With `partial`, a shard whose process or actor dies is left out of later answers, see
        `ShardedIndex`."""
        manifests = ShardManifests(Path(folder))
        return cls(manifests, open_newest(manifests), tokenizer, partial=partial, searched_by=searched_by)

    @property
    def documents(self) -> ShardedDocuments:
        """The live documents of all shards, read in this process."""
        if self._documents is None:
            self._documents = ShardedDocuments(self.folder, [shard.documents for shard in self.shards])
        return self._documents

    @property
    def index(self) -> ShardedIndex:
        """The index over all shards, whose processes or actors start at the first use and end with it. DataError where a change has
        deleted parts since this object was opened, ShardError where there is no ray or its cluster does not answer."""
        if self._index is None:
            shards = self._started()
            try:
                self._index = shards.__enter__()
            except DataError as error:
                if self._manifests.read() == tuple(shard.manifest for shard in self.shards):
                    raise
                raise DataError(
                    f"the collection {self.folder} was changed while it was opened; open it again"
                ) from error
            weakref.finalize(self._index, shards.close)
            self._index.doc_ids, self._index.path = self.documents.doc_ids, self.folder
        return self._index

    def _started(self) -> LocalShards | RayShards:
        places = [(shard.folder, shard.manifest) for shard in self.shards]
        settings = self.searched_by
        if settings.engine == RAY:
            from gemkr.collection.cluster import RayShards

            return RayShards(places, address=settings.address, partial=self.partial, cpus=settings.cpus)
        return LocalShards(places, partial=self.partial)

    @property
    def generation(self) -> int:
        """Counts the changes of all shards."""
        return sum(shard.manifest.generation for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the contents."""
        return self.documents.fingerprint

    @property
    def tokenizer(self) -> Tokenizer:
        """As `Collection.tokenizer`."""
        if self._tokenizer is None:
            record = self.shards[0].manifest.tokenizer
            self._tokenizer = recorded_tokenizer(self.folder, record, self._tokenizer_path)
        return self._tokenizer

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

    def compact(self, memory_limit: int | None = None, *, tiered: bool = False) -> None:
        """As `Collection.compact`, one shard after the other, each a change of its own."""
        compact(self._manifests, tiered, memory_limit)
        self.refresh()

    @property
    def due(self) -> bool:
        """As `Collection.due`."""
        return any(by_policy(shard) is not None for shard in self.shards)

    def verify(self) -> None:
        """As `Collection.verify`; also DataError for a document in another shard than its own, which nothing would find."""
        for number, shard in enumerate(verify(self._manifests, self.shards)):
            ids = list(shard.documents.doc_ids)
            for doc_id, home in zip(ids, shard_of(ids, len(self.shards)), strict=True):
                if home != number:
                    raise DataError(
                        f"the document {doc_id!r} lies in {shard.folder}, not in {self.shards[home].folder}; change shards through "
                        f"{self.folder} only"
                    )

    def refresh(self) -> int:
        """Go to the newest generations, all of one change; their number."""
        before, self.shards = self.shards, self._newest()
        if any(old is not new for old, new in zip(before, self.shards, strict=True)):
            self._documents = self._index = None
        return self.generation

    def info(self) -> dict[str, Any]:
        """What all shards together are made of, and how many documents each holds."""
        every = [shard.info() for shard in self.shards]
        facts = {
            key: sum(each[key] for each in every) if key in SUMMED else every[0][key] for key in every[0]
        }
        return {"shards": len(self.shards), **facts} | {
            shard.folder.name: len(shard.documents) for shard in self.shards
        }

    def _append(
        self, documents: Iterable[Document], *, replace: bool, memory_limit: int | None, processes: int
    ) -> None:
        with self._changing() as changes, dealt(documents, len(self.shards), self.folder) as files:
            for change, file in zip(changes, files, strict=True):
                change.append(
                    read_dealt(file),
                    lambda: self.tokenizer,
                    replace=replace,
                    memory_limit=memory_limit,
                    processes=processes,
                )

    def _newest(self) -> tuple[Generation, ...]:
        return open_newest(self._manifests, self.shards)

    @contextmanager
    def _changing(self) -> Iterator[list[Change]]:
        """A change of every shard, settled at its end, and all committed in one step."""
        with changing(self._manifests, self._newest) as changes:
            yield changes
            for change in changes:
                change.settle()
        self.refresh()
