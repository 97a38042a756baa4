"""A folder that is a collection or one of shards, whichever it is."""

from __future__ import annotations

from pathlib import Path

from gemkr.collection.collection import Collection
from gemkr.collection.generation import joined_index
from gemkr.collection.manifest import is_collection
from gemkr.collection.shard_manifest import is_sharded
from gemkr.collection.sharded import ShardedCollection
from gemkr.config.shards import HERE, ShardsConfig
from gemkr.fm_index import FMIndex, SegmentedIndex


def holds_collection(path: str | Path) -> bool:
    """Whether a folder is a collection, or one of shards."""
    return is_collection(path) or is_sharded(path)


def open_collection(
    folder: str | Path,
    *,
    tokenizer: str | Path | None = None,
    partial: bool = False,
    searched_by: ShardsConfig = HERE,
) -> Collection | ShardedCollection:
    """The collection or the shards of a folder; DataError where it is neither."""
    if is_sharded(folder):
        return ShardedCollection.open(folder, tokenizer=tokenizer, partial=partial, searched_by=searched_by)
    return Collection.open(folder, tokenizer=tokenizer)


def index_here(opened: Collection | ShardedCollection) -> FMIndex | SegmentedIndex:
    """The index of a collection, or one over all shards, searched in this process: for work that forks, or may start no processes."""
    return opened.index if isinstance(opened, Collection) else joined_index(opened.shards)
