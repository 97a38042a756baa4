"""Random access to the documents of a corpus, by number and by id, for ranking and for reports.

Texts lie as UTF-8 in an unnamed temporary file that is mapped into memory; per document only the id and two
offsets are held. Knows nothing of tokens or scores.
"""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from gemkr.data.corpus import BadRows, read_corpus
from gemkr.errors import DataError
from gemkr.types import Document


class DocumentStore(Sequence[Document]):
    """The documents of a corpus: `store[3]`, `store.by_id("a7")`, `store.number("a7")`, iteration in order.

    Document numbers are positions in the corpus and agree with those of an FM-index built from the same file
    with the same treatment of bad rows; `require_same_documents` checks it.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        """Copy the documents; raises DataError for a duplicate id, no documents, or a full temporary folder."""
        ends = array("q", [0])
        self.doc_ids: list[str] = []
        self._numbers: dict[str, int] = {}
        self._images: dict[int, str] = {}
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the map over it
        size = 0
        try:
            for document in documents:
                number = self._numbers.setdefault(document.doc_id, len(self.doc_ids))
                if number != len(self.doc_ids):
                    raise DataError(
                        f"the document id {document.doc_id!r} belongs to documents {number} and {len(self.doc_ids)}; "
                        "make ids distinct"
                    )
                self.doc_ids.append(document.doc_id)
                if document.image is not None:
                    self._images[number] = document.image
                for part in (document.title.encode(), document.text.encode()):
                    self._file.write(part)
                    size += len(part)
                    ends.append(size)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"the texts do not fit into the temporary folder {tempfile.gettempdir()} ({error.strerror}); "
                "set TMPDIR to a folder with more space"
            ) from error
        if not self.doc_ids:
            raise DataError("the corpus holds no document; it needs at least one")
        self._ends = np.frombuffer(ends, dtype=np.int64)
        self._texts = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    @classmethod
    def open(cls, path: str | Path, *, skip_bad_rows: BadRows | None = None) -> DocumentStore:
        """Read a corpus file (`gemkr.data.corpus.read_corpus`) once, from start to end."""
        return cls(read_corpus(path, skip_bad_rows=skip_bad_rows))

    @classmethod
    def open_indexed(cls, path: str | Path, doc_ids: Sequence[str]) -> DocumentStore:
        """Read the corpus file that an index with these ids was built from, skipping the rows it skipped.

        Raises DataError as `require_same_documents` does.
        """
        bad = BadRows()
        store = cls.open(path, skip_bad_rows=bad)
        store.require_same_documents(doc_ids, bad)
        return store

    def __len__(self) -> int:
        return len(self.doc_ids)

    @overload
    def __getitem__(self, doc: int) -> Document: ...

    @overload
    def __getitem__(self, doc: slice) -> list[Document]: ...

    def __getitem__(self, doc: int | slice) -> Document | list[Document]:
        """The document with a number (IndexError outside [0, len)), or the documents of a slice."""
        if isinstance(doc, slice):
            return [self[i] for i in range(*doc.indices(len(self)))]
        if not 0 <= doc < len(self):
            raise IndexError(f"document {doc} is outside of [0, {len(self)})")
        start, middle, stop = self._ends[2 * doc : 2 * doc + 3].tolist()
        return Document(
            self.doc_ids[doc],
            self._texts[middle:stop].decode(),
            self._texts[start:middle].decode(),
            self._images.get(doc),
        )

    def __iter__(self) -> Iterator[Document]:
        return (self[doc] for doc in range(len(self)))

    def __contains__(self, doc_id: object) -> bool:
        return doc_id in self._numbers

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the documents: ids, titles, texts and image ids, in order. About a second per gigabyte."""
        digest = hashlib.sha256("\n".join(self.doc_ids).encode())
        for part in (self._ends, self._texts, repr(self._images).encode()):
            digest.update(part)
        return digest.hexdigest()

    def number(self, doc_id: str) -> int:
        """The number of a document id; raises DataError when the corpus does not hold it."""
        try:
            return self._numbers[doc_id]
        except KeyError:
            raise DataError(
                f"the document id {doc_id!r} is not among the {len(self)} documents of the corpus; use the corpus that "
                "the ids were made for"
            ) from None

    def by_id(self, doc_id: str) -> Document:
        """The document with an id; raises DataError when the corpus does not hold it."""
        return self[self.number(doc_id)]

    def contents(self, doc: int) -> str:
        """What is indexed and shown of document number `doc`: its title and its text."""
        return self[doc].contents

    def require_same_documents(self, doc_ids: Sequence[str], passed_over: BadRows | None = None) -> None:
        """Raise DataError unless an index with these ids (in its order) holds exactly these documents.

        The error names the first of the bad rows that were `passed_over`.
        """
        require_same_ids(doc_ids, self.doc_ids, passed_over)


def require_same_ids(theirs: Sequence[str], ours: Sequence[str], passed_over: BadRows | None = None) -> None:
    """Raise DataError unless an index with the ids `theirs` holds exactly the documents of a corpus with the ids `ours`."""
    if len(theirs) != len(ours):
        bad = f" and {len(passed_over)} bad rows ({passed_over.rows[0]})" if passed_over else ""
        raise DataError(
            f"the index holds {len(theirs)} documents, the corpus {len(ours)}{bad}; use the corpus that it was built from"
        )
    for number, (other, own) in enumerate(zip(theirs, ours)):
        if other != own:
            raise DataError(
                f"document {number} is {other!r} in the index and {own!r} in the corpus; use the corpus that the "
                "index was built from"
            )


def allowed_documents(doc_ids: Sequence[str], allowed: Collection[str]) -> np.ndarray:
    """bool[N]: which documents are among the allowed ids; O(N). DataError for a name in place of a set of ids."""
    if isinstance(allowed, str):
        raise DataError(
            f"allowed must be a set of document ids, it is the text {allowed!r}; look a pool up by its name first"
        )
    ids = allowed if isinstance(allowed, (set, frozenset, dict)) else frozenset(allowed)
    return np.fromiter((doc_id in ids for doc_id in doc_ids), dtype=bool, count=len(doc_ids))
