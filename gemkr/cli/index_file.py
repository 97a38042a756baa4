"""The index file that a command names; a collection in its place is named as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gemkr.errors import DataError

if TYPE_CHECKING:
    from gemkr.fm_index import FMIndex


def load_index(path: Path, way_out: str) -> FMIndex:
    """The index of a file. DataError with `way_out` for a collection; FMIndexError for a file that is no index."""
    from gemkr.collection.opening import holds_collection
    from gemkr.fm_index import FMIndex

    if holds_collection(path):
        raise DataError(f"{path} is a collection, not an index file; {way_out}")
    return FMIndex.load(path)
