"""The document ids of an index as a sequence that decodes an id when it is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from gemkr.fm_index._core import xxh64
from gemkr.fm_index.errors import IndexCorruptError

if TYPE_CHECKING:
    from gemkr.fm_index._core import Index


def hash_id(doc_id: str) -> int:
    """XXH64 of an id."""
    return xxh64(doc_id.encode())


def hash_ids(ids: Iterable[str]) -> np.ndarray:
    """uint64[n]: XXH64 of each id; about 0.3 µs each."""
    return np.array([xxh64(doc_id.encode()) for doc_id in ids], np.uint64)


class NumberedIds(Sequence[str]):
    """Ids by document number: subclasses know how many there are, and `_id` of a number in [0, len). Equal to any sequence of the
    same ids; IndexError past the end."""

    __slots__ = ()

    @abstractmethod
    def _id(self, number: int) -> str: ...

    @overload
    def __getitem__(self, doc: int) -> str: ...
    @overload
    def __getitem__(self, doc: slice) -> list[str]: ...
    def __getitem__(self, doc: int | slice) -> str | list[str]:
        if isinstance(doc, slice):
            return [self[d] for d in range(*doc.indices(len(self)))]
        number = doc.__index__()
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"document {doc} is not among the {len(self)} documents of this index")
        return self._id(number)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None


class DocIds(NumberedIds):
    """`ids[doc]` is the outside name of document number `doc`; opening costs nothing, one id about 0.3 µs.

    Raises IndexError past the end and IndexCorruptError where the file does not hold text.
    """

    __slots__ = ("_index",)

    def __init__(self, index: Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def _id(self, number: int) -> str:
        try:
            return self._index._doc_id(number).decode("utf-8")
        except UnicodeDecodeError as error:
            raise IndexCorruptError(
                f"section 'ids' is damaged at document {number}; build the index again"
            ) from error

    def __repr__(self) -> str:
        shown = ", ".join(repr(i) for i in self[:3])
        return f"DocIds([{shown}{', ...' if len(self) > 3 else ''}], {len(self)} documents)"
